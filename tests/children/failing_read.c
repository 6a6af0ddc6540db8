/* A process_vm_readv() of which one call fails. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

long reads, failing;

ssize_t
process_vm_readv(pid_t pid, const struct iovec *to, unsigned long to_count,
                 const struct iovec *from, unsigned long from_count,
                 unsigned long flags)
{
    if (++reads == failing) {
        errno = EFAULT;
        return -1;
    }
    return syscall(SYS_process_vm_readv, pid, to, to_count, from, from_count,
                   flags);
}

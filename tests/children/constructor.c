/* A library whose constructor waits. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void
begin(void)
{
    if (write(atoi(getenv("BEGUN")), "", 1) == 1)
        sleep(20);
}

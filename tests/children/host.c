/* A program that embeds Python.  With an argument it has a handler and an
   alternate stack of its own before. */
#include <Python.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char memory[1 << 16];

static void
on_fault(int signum)
{
    (void)signum;
    _Exit(42);
}

static void
look(const char *when)
{
    struct sigaction action;
    stack_t stack;

    sigaction(SIGSEGV, NULL, &action);
    sigaltstack(NULL, &stack);
    printf("%s: its handler %d, its stack %d\n", when,
           action.sa_handler == on_fault, stack.ss_sp == memory);
    fflush(stdout);
}

int
main(int count, char **arguments)
{
    struct sigaction action;
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory};

    memset(&action, 0, sizeof action);
    action.sa_handler = on_fault;
    action.sa_flags = SA_ONSTACK;
    if (count > 1) {
        sigaction(SIGSEGV, &action, NULL);
        sigaltstack(&stack, NULL);
    }
    for (int i = 0; i < 2; i++) {
        Py_Initialize();
        PyRun_SimpleString(
            "import os, site; site.addsitedir(os.environ['WHERE'])\n"
            "import faulthandler\n"
            "print(faulthandler.is_enabled(), faulthandler.version,"
            " flush=True)");
        look("inside");
        Py_FinalizeEx();
        look("after");
    }
    *(volatile int *)0 = 1;
    return (int)(arguments == NULL);
}

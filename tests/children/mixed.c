/* A library whose functions call each other, and Python functions. */

void mixed_read(const int *at)
{
    volatile int word = *(const volatile int *)at;
    word++;
}

void mixed_call(void (*function)(void))
{
    function();
}

void mixed_deep(void (*function)(void), int depth)
{
    if (depth > 0) {
        mixed_deep(function, depth - 1);
    }
    else {
        mixed_call(function);
    }
}

void mixed_smash(void)
{
    unsigned long volatile *frame = __builtin_frame_address(0);
    frame[0] = frame[1] = 0x4141414141414141;
#ifndef __x86_64__              /* where returning is the crash */
    *(volatile int *)16 = 0;
#endif
}

void mixed_odd(void)
{
#ifdef __x86_64__
    __asm__ volatile ("sub $6, %rsp\n\tmovl $0, 16");
#endif
}

int mixed_overflow(char *below)
{
    char here[64];
    here[0] = below == 0 ? 0 : *below;
    return mixed_overflow(here) + here[0];
}

/* A frame evaluator of one's own, PEP 523. */
void *_PyEval_EvalFrameDefault(void *, void *, int);

void *mixed_evaluate(void *state, void *frame, int thrown)
{
    return _PyEval_EvalFrameDefault(state, frame, thrown);
}

/* A thread-local variable that lies on the stack of each thread. */
__attribute__((tls_model("initial-exec")))
__thread char large[248 * 1024];

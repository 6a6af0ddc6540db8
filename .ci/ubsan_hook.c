/* What UndefinedBehaviorSanitizer calls with each finding: as a shared
   library it ignores log_path, and not every test reads standard error. */
#include <stdio.h>
#include <stdlib.h>

void __ubsan_get_current_report_data(const char **, const char **,
                                     const char **, unsigned *, unsigned *,
                                     char **);
void __ubsan_on_report(void);

void
__ubsan_on_report(void)
{
    const char *kind, *message, *file;
    unsigned line, column;
    char *address;
    FILE *found = fopen(getenv("UBSAN_FOUND"), "a");

    __ubsan_get_current_report_data(&kind, &message, &file, &line, &column,
                                    &address);
    fprintf(found, "ERROR: %s:%u:%u: %s: %s\n", file, line, column, kind,
            message);
    fclose(found);
}

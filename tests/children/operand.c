/* Say which registers the operand of each line of machine code has. */

#include <stdio.h>
#include <stdlib.h>
#include "../../src/cpu.h"

int
operands(const char *path)
{
    char line[256];
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        uint8_t code[CPU_CODE_BYTES];
        int base, index;
        size_t n = 0;
        char *at = line, *end;
        while (n < sizeof code) {
            unsigned long byte = strtoul(at, &end, 16);
            if (end == at) {
                break;
            }
            code[n++] = (uint8_t)byte;
            at = end;
        }
        cpu_operand_registers(code, n, &base, &index);
        printf("%s %s\n", base < 0 ? "-" : cpu_register_name((size_t)base),
               index < 0 ? "-" : cpu_register_name((size_t)index));
    }
    fflush(stdout);
    return 0;
}

# A library whose debug data are written by hand: entries in its unit, where 2
# opens a block and 3 is a type, and units that share a list of ranges.
# test_symbol.py fills in how many of each there are, and the read.
    .text
    .globl boom
    .type boom, @function
boom:
    .cfi_startproc
    %(read)s
    ret
    .cfi_endproc
end_of_boom:
    .size boom, . - boom
    .section .debug_abbrev, "", @progbits
    .byte 1, 0x11, 1, 0x10, 0x17, 0x11, 1, 0x12, 1, 3, 8, 0, 0
    .byte 2, 0x0b, 1, 0, 0
    .byte 3, 0x24, 0, 0, 0
    .byte 4, 0x11, 0, 0x55, 0x17, 0, 0
    .byte 0
    .section .debug_line, "", @progbits
    .long end_of_lines - 4
    .short 4
    .long end_of_header - start_of_header
start_of_header:
    .byte 1, 1, 1, -5, 14, 13
    .byte 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1
    .byte 0
    .asciz "boom.c"
    .byte 0, 0, 0
    .byte 0
end_of_header:
    .byte 0, 9, 2
    .quad boom
    .byte 3, 6, 1, 2, 4, 0, 1, 1
end_of_lines:
    .section .debug_str, "", @progbits
    .byte 0
    .section .debug_ranges, "", @progbits
    .fill %(ranges)d, 8, 1
    .quad 0, 0
    .section .debug_info, "", @progbits
    .rept %(units)d
    .long 2f - 1f
1:  .short 4
    .long 0
    .byte 8
    .byte 4
    .long 0
2:
    .endr
    .long 2f - 1f
1:  .short 4
    .long 0
    .byte 8
    .byte 1
    .long 0
    .quad boom
    .quad end_of_boom
    .asciz "boom.c"
    .fill %(entries)d, 1, %(entry)d
2:
    .section .note.GNU-stack, "", @progbits

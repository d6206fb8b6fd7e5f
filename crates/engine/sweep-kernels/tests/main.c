/* Behind the kernels: does the launches that come through the standard input, and writes the memory back. */
#include <stdio.h>
#include <stdlib.h>

static u8 *memory[7];
static u64 size[7];
enum { BASE, WORDS, ALONG, JOBS, DOUBLES, FLOATS, LAUNCHES };

int main(void) {
    for (int i = 0; i < 7; i++) {
        if (fread(&size[i], 8, 1, stdin) != 1) return 1;
        memory[i] = calloc(size[i] + 8, 1);
        if (fread(memory[i], 1, size[i], stdin) != size[i]) return 2;
    }
    const u64 *launch = (const u64 *)memory[LAUNCHES];
    for (u64 i = 0; i < size[LAUNCHES] / 24; i++, launch += 3) {
        KERNELS[launch[0]](memory[BASE], (const u64 *)memory[WORDS], (const float *)memory[ALONG],
            (const u32 *)memory[JOBS] + launch[1], launch[2], (double *)memory[DOUBLES], (float *)memory[FLOATS]);
    }
    const int back[] = {BASE, DOUBLES, FLOATS};
    for (int i = 0; i < 3; i++) {
        if (fwrite(memory[back[i]], 1, size[back[i]], stdout) != size[back[i]]) return 3;
    }
    return 0;
}

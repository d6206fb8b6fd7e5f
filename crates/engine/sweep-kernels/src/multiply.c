/* Matrices, in tiles of 64 by 64 elements, of which each thread has 16. A job is a tile of a tensor's result. */
KERNEL multiply(ARGUMENTS) {
    (void)along; (void)jobs; (void)doubles; (void)floats;
    const u64 *w = words;
    const u64 rows = w[0], cols = w[1], depth = w[2], down = (rows + 63) / 64, across = (cols + 63) / 64;
    SHARED float l[16][65], r[16][65];
    FOR_BLOCKS(job, count) {
        const u64 *arrays = w + 17 + job / (down * across) * 4;
        const u64 row = job / across % down * 64, col = job % across * 64;
        float *into = (float *)(base + arrays[0]);
        const float *left = (const float *)(base + arrays[1]), *right = (const float *)(base + arrays[2]);
        const float *plus = (const float *)(base + arrays[3]);
        if (w[14] && col > row) continue;
        THREADED(sums, 16);
        for (u64 from = 0; from < depth; from += 16) {
            THREADS_BEGIN
                /* Neighbours read what lies side by side. */
                for (u32 at = thread; at < 16 * 64; at += 256) {
                    const u32 k = w[6] == 1 ? at % 16 : at / 64, i = w[6] == 1 ? at / 16 : at % 64;
                    l[k][i] = from + k < depth && row + i < rows ? left[(row + i) * w[5] + (from + k) * w[6]] : 0;
                }
                for (u32 at = thread; at < 16 * 64; at += 256) {
                    const u32 k = w[8] == 1 ? at / 64 : at % 16, j = w[8] == 1 ? at % 64 : at / 16;
                    r[k][j] = from + k < depth && col + j < cols ? right[(from + k) * w[7] + (col + j) * w[8]] : 0;
                }
            THREADS_END
            THREADS_BEGIN
                for (u32 k = 0; k < 16; k++) {
                    for (u32 a = 0; a < 16; a++) {
                        OWN(sums)[a] += l[k][thread / 16 + a / 4 * 16] * r[k][thread % 16 + a % 4 * 16];
                    }
                }
            THREADS_END
        }
        THREADS_BEGIN
            for (u32 a = 0; a < 16; a++) {
                const u64 i = row + thread / 16 + a / 4 * 16, j = col + thread % 16 + a % 4 * 16;
                if (i >= rows || j >= cols || (w[14] && j > i)) continue;
                float x = as_float(w[11]) * OWN(sums)[a];
                if (w[15]) x += as_float(w[12]) * plus[i * w[9] + j * w[10]];
                if (i == j) x += as_float(w[13]);
                into[i * w[3] + j * w[4]] = x;
                if (w[14]) into[j * w[3] + i * w[4]] = x;
            }
        THREADS_END
    }
}

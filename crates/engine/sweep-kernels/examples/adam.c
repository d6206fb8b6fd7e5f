FUNCTION void elements(const u64 *w, const float *RESTRICT along, u64 first, u32 n, u32 lane, const float *RESTRICT G, float *RESTRICT Y, float *RESTRICT C0, float *RESTRICT C1) {
    (void)w; (void)along;
    const float s0 = as_float(w[5]);
    const float s1 = as_float(w[6]);
    const float s2 = as_float(w[7]);
    const float s3 = as_float(w[8]);
    const float s6 = as_float(w[11]);
    UNROLL for (u32 i = lane; i < n; i += 32) {
        const u64 at = first + i;
        const float g = G[at];
        const float y = Y[at];
        const float c0 = C0[at];
        const float c1 = C1[at];
        const float v10 = s0 * c0;
        const float v11 = s1 * g;
        const float v12 = v10 + v11;
        const float v13 = s2 * c1;
        const float v14 = g * g;
        const float v15 = s3 * v14;
        const float v16 = v13 + v15;
        const float v17 = sqrtf(v16);
        const float v19 = v17 + 1e-8f;
        const float v20 = v12 / v19;
        const float v24 = s6 * v20;
        const float v25 = y - v24;
        C0[at] = v12;
        C1[at] = v16;
        Y[at] = v25;
    }
}
KERNEL sweep(ARGUMENTS) {
    (void)base; (void)along; (void)doubles; (void)floats;
    FOR_WARPS(job, count) {
        const u64 *w = words + 17 * jobs[2 * job], first = jobs[2 * job + 1] * (u64)TILE;
        const u32 n = w[0] - first < TILE ? (u32)(w[0] - first) : TILE;
        LANES_BEGIN
            elements(w, along, first, n, lane, ARRAY(float, 1), ARRAY(float, 2), ARRAY(float, 3), ARRAY(float, 4));
        LANES_END
    }
}

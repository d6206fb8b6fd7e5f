var<workgroup> l: array<f32, 256>;
var<workgroup> r: array<f32, 256>;

// Matrices, in tiles of 16 by 16 elements, of which each invocation has one. A workgroup has a tile of a tensor's result.
@compute @workgroup_size(16, 16)
fn multiply(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    let rows = words[0].x;
    let cols = words[1].x;
    let depth = words[2].x;
    let down = (rows + 15u) / 16u;
    let across = (cols + 15u) / 16u;
    let symmetric = words[14].x != 0u;
    let job = group.x + group.y * groups.x;
    let row = job / across % down * 16u;
    let col = job % across * 16u;
    let w = 17u + job / (down * across) * 4u;
    if (job >= down * across * words[16].x || (symmetric && col > row)) { return; }
    var sum = 0.0;
    for (var first = 0u; first < depth; first += 16u) {
        // Neighbours read what lies side by side.
        let of_left = select(local.xy, local.yx, words[6].x == 1u);
        let of_right = select(local.xy, local.yx, words[8].x == 1u);
        var x = 0.0;
        var y = 0.0;
        if (row + of_left.x < rows && first + of_left.y < depth) {
            x = left[words[w + 1u].x + (row + of_left.x) * words[5].x + (first + of_left.y) * words[6].x];
        }
        if (first + of_right.x < depth && col + of_right.y < cols) {
            y = right[words[w + 2u].x + (first + of_right.x) * words[7].x + (col + of_right.y) * words[8].x];
        }
        l[16u * of_left.x + of_left.y] = x;
        r[16u * of_right.x + of_right.y] = y;
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) { sum += l[16u * local.y + k] * r[16u * k + local.x]; }
        workgroupBarrier();
    }
    let i = row + local.y;
    let j = col + local.x;
    if (i >= rows || j >= cols || (symmetric && j > i)) { return; }
    var x = bitcast<f32>(words[11].x) * sum;
    if (words[15].x != 0u) { x += bitcast<f32>(words[12].x) * plus[words[w + 3u].x + i * words[9].x + j * words[10].x]; }
    if (i == j) { x += bitcast<f32>(words[13].x); }
    into[words[w].x + i * words[3].x + j * words[4].x] = x;
    if (symmetric) { into[words[w].x + j * words[3].x + i * words[4].x] = x; }
}

@group(0) @binding(0) var<storage, read> words: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> along: array<f32>;
@group(0) @binding(2) var<storage, read> jobs: array<u32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<f32>;
@group(0) @binding(4) var<storage, read_write> floats: array<f32>;
@group(0) @binding(5) var<storage, read> buffer0: array<f32>;
@group(0) @binding(6) var<storage, read_write> buffer1: array<f32>;
@group(0) @binding(7) var<storage, read_write> buffer2: array<f32>;

struct Kept { c0: f32, c1: f32, y: f32 }
fn element(w: u32, at: u32) -> Kept {
    let s0 = bitcast<f32>(words[w + 5u].x);
    let s1 = bitcast<f32>(words[w + 6u].x);
    let s2 = bitcast<f32>(words[w + 7u].x);
    let s3 = bitcast<f32>(words[w + 8u].x);
    let s6 = bitcast<f32>(words[w + 11u].x);
    let g = buffer0[words[w + 1u].x + at];
    let y = buffer1[words[w + 2u].x + at];
    let c0 = buffer2[words[w + 3u].x + at];
    let c1 = buffer2[words[w + 4u].x + at];
    let v10 = s0 * c0;
    let v11 = s1 * g;
    let v12 = v10 + v11;
    let v13 = s2 * c1;
    let v14 = g * g;
    let v15 = s3 * v14;
    let v16 = v13 + v15;
    let v17 = sqrt(v16);
    let v19 = v17 + 1e-8f;
    let v20 = v12 / v19;
    let v24 = s6 * v20;
    let v25 = y - v24;
    return Kept(v12, v16, v25);
}

@compute @workgroup_size(256)
fn sweep(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let job = (group.x + group.y * groups.x) * 8u + local / 32u;
    let lane = local % 32u;
    let base = local / 32u * 32u;
    let count = arrayLength(&jobs) / 2u;
    var w = 0u;
    var first = 0u;
    var n = 0u;
    if (job < count) {
        w = 17u * jobs[2u * job];
        first = jobs[2u * job + 1u] * TILE;
        n = min(words[w].x - first, TILE);
    }
    for (var i = lane; i < n; i += 32u) {
        let at = first + i;
        let kept = element(w, at);
        buffer2[words[w + 3u].x + at] = kept.c0;
        buffer2[words[w + 4u].x + at] = kept.c1;
        buffer1[words[w + 2u].x + at] = kept.y;
    }
}

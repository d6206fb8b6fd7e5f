@group(0) @binding(0) var<storage, read> words: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> jobs: array<u32>;
@group(0) @binding(4) var<storage, read_write> beyond: array<atomic<u32>>;
@group(0) @binding(5) var<storage, read> buffer0: array<u32>;

// Of what is not a number the bits are the largest; a comparison of numbers need not be right there.
@compute @workgroup_size(256)
fn usable(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let job = 2u * ((group.x + group.y * groups.x) * 8u + local / 32u);
    if (job >= arrayLength(&jobs)) { return; }
    let w = 4u * jobs[job];
    let first = jobs[job + 1u] * 1024u;
    let end = min(first + 1024u, words[w].x);
    var largest = 0u;
    for (var at = first + local % 32u; at < end; at += 32u) {
        var bits = 0u;
        if (words[w + 2u].x == 0u) {
            bits = buffer0[words[w + 1u].x + at];
        } else {
            bits = buffer0[words[w + 1u].x + at / 2u] << (16u - 16u * (at % 2u));
        }
        largest = max(largest, bits & 0x7fffffffu);
    }
    if (largest > words[w + 3u].x) { atomicOr(&beyond[jobs[job]], 1u); }
}

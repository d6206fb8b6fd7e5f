struct Sample {
    to: u32,
    first: u32,
    every: u32,
    len: u32,
}

@group(0) @binding(0) var<storage, read_write> written: array<u32>;
@group(0) @binding(1) var<uniform> sample: Sample;
@group(0) @binding(2) var<storage, read> source: array<u32>;

@compute @workgroup_size(256)
fn take(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    for (var i = id.x; i < sample.len; i += 256u * groups.x) {
        written[sample.to + i] = source[sample.first + i * sample.every];
    }
}

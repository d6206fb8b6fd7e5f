
// Parts of up to 32 sums, added in order: first, distance of parts, parts, destination, sums.
@compute @workgroup_size(256)
fn fold_parts(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let job = 5u * ((group.x + group.y * groups.x) * 8u + local / 32u);
    let lane = local % 32u;
    if (job >= arrayLength(&jobs) || lane >= jobs[job + 4u]) { return; }
    var sum = 0.0;
    for (var i = 0u; i < jobs[job + 2u]; i++) { sum += floats[jobs[job] + i * jobs[job + 1u] + lane]; }
    floats[jobs[job + 3u] + lane] = sum;
}

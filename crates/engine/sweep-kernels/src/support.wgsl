const TILE = 1024u;
const CHUNK = 524288u;

// A number of each lane: those of eight tiles.
var<workgroup> lanes: array<f32, 256>;

// By halves, as on the processor: those of the tile whose lanes begin at `base`.
fn add_half(base: u32, lane: u32, far: u32) {
    workgroupBarrier();
    if (lane < far) { lanes[base + lane] += lanes[base + lane + far]; }
}
fn total_of_8(base: u32, lane: u32) -> f32 {
    add_half(base, lane, 4u);
    add_half(base, lane, 2u);
    add_half(base, lane, 1u);
    workgroupBarrier();
    let sum = lanes[base];
    workgroupBarrier();
    return sum;
}
fn total_of_32(base: u32, lane: u32) -> f32 {
    add_half(base, lane, 16u);
    add_half(base, lane, 8u);
    return total_of_8(base, lane);
}

// The first `n`, one by one.
fn in_order(base: u32, n: u32) -> f32 {
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < n; i++) { sum += lanes[base + i]; }
    workgroupBarrier();
    return sum;
}

// The sum of a tile of `n` terms: the lanes' full blocks of 32, and what is behind them.
fn total(base: u32, lane: u32, sum: f32, rest: f32, n: u32) -> f32 {
    lanes[base + lane] = sum;
    let blocks = total_of_32(base, lane);
    lanes[base + lane] = rest;
    return blocks + in_order(base, n % 32u);
}

// The same where an invocation has two lanes that are neighbours.
fn total_of_pairs(base: u32, pair: u32, sum: vec2<f32>, rest: vec2<f32>, n: u32) -> f32 {
    lanes[base + 2u * pair] = sum.x;
    lanes[base + 2u * pair + 1u] = sum.y;
    let blocks = total_of_32(base, pair);
    lanes[base + 2u * pair] = rest.x;
    lanes[base + 2u * pair + 1u] = rest.y;
    return blocks + in_order(base, n % 32u);
}

// Of samples: eight lanes.
fn total8(base: u32, lane: u32, sum: f32) -> f32 {
    if (lane < 8u) { lanes[base + lane] = sum; }
    return total_of_8(base, lane);
}

// Not constants, as a constant must be finite.
var<private> infinite: u32 = 0x7f800000u;
var<private> not_a_number: u32 = 0x7fc00000u;

// bfloat16 in memory: two in a word.
fn from_bf16(word: u32, at: u32) -> f32 {
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, at % 2u == 1u));
}
fn round_bf16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let rounded = (bits + (0x7fffu + (bits >> 16u & 1u))) & 0xffff0000u;
    return bitcast<f32>(select(rounded, bits | 0x00400000u, (bits & 0x7fffffffu) > 0x7f800000u));
}
fn to_nearest(x: f32) -> u32 { return bitcast<u32>(round_bf16(x)) >> 16u; }
fn to_either(x: f32, random: u32) -> u32 {
    let bits = bitcast<u32>(x);
    return (bits + select(random, 0u, (bits & 0x7f800000u) == 0x7f800000u)) >> 16u;
}

// Numbers of 64 bits, the low half first.
fn product_of_halves(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let first = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let second = (a & 0xffffu) * (b >> 16u) + (first & 0xffffu);
    return vec2<u32>(second << 16u | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (first >> 16u) + (second >> 16u));
}
fn product(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return product_of_halves(a.x, b.x) + vec2<u32>(0u, a.x * b.y + a.y * b.x);
}
fn shifted(a: vec2<u32>, by: u32) -> vec2<u32> {
    return vec2<u32>(a.x >> by | (a.y << (32u - by)), a.y >> by);
}

// The random bits of stochastic rounding: the key of a tile, and those of an element within it.
fn key_of_tile(stream: vec2<u32>, tile: u32) -> vec2<u32> {
    var z = vec2<u32>(stream.x ^ tile, stream.y);
    z = product(z ^ shifted(z, 30u), vec2<u32>(0x1ce4e5b9u, 0xbf58476du));
    z = product(z ^ shifted(z, 27u), vec2<u32>(0x133111ebu, 0x94d049bbu));
    return z ^ shifted(z, 31u);
}
fn random_bits(key: vec2<u32>, within: u32) -> u32 {
    var h = ((within / 128u * 64u + within % 64u) * 0x9e3779b1u) ^ key.x;
    h ^= h >> 16u;
    h *= 0x7feb352du;
    h ^= h >> 15u;
    h += key.y;
    h *= 0x846ca68bu;
    h ^= h >> 16u;
    return select(h & 0xffffu, h >> 16u, within % 128u < 64u);
}

// Of a number from 0 to 1.
fn arctangent(x: f32) -> f32 {
    let t = x * x;
    let t2 = t * t;
    let t4 = t2 * t2;
    let first = (-0.3333328 + 0.1999823 * t) + (-0.14261574 + 0.10940199 * t) * t2;
    let second = (-0.08372064 + 0.05746356 * t) + (-0.030717509 + 0.01068072 * t) * t2;
    return x * (1.0 + t * (first + (second - 0.001743701 * t4) * t4));
}
// Some devices overflow far from zero, where it is 1.
fn hyperbolic_tangent(x: f32) -> f32 { return tanh(clamp(x, -16.0, 16.0)); }

// An element's place in an array without an axis; `inner` elements follow one another, and `outer` of them make a round.
fn along_at(at: u32, outer: u32, inner: u32) -> u32 { return at / outer * inner + at % inner; }

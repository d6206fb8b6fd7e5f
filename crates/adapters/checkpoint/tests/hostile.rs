//! Files that somebody made to do harm: whole, with the right checksum, but with contents that no save writes.

mod parts;

use checkpoint::{Error, from_bytes};
use safetensors::Dtype;
use serde_json::{Value, json};

use parts::{Parts, assembled, optimizer, parts, taken_apart};

/// The error, after making sure that nothing has changed.
#[track_caller]
fn refused(bytes: &[u8]) -> Error {
    let mut optimizer = optimizer();
    let before = optimizer.snapshot();
    let error = from_bytes(bytes, &mut optimizer).unwrap_err();
    assert_eq!(optimizer.snapshot(), before);
    error
}

#[test]
fn what_was_taken_apart_and_put_together_is_read() {
    from_bytes(&assembled(parts()), &mut optimizer()).unwrap();
}

/// A change that makes a file hostile.
type Change<'a> = &'a dyn Fn(&mut Parts);

#[test]
fn contents_that_no_save_writes_are_refused() {
    let parameter = |header: &mut Value, key: &str, value: Value| {
        let kind = header["parameters"]["w"].as_u64().unwrap() as usize;
        header["kinds"][kind][key] = value;
    };
    let joined = |header: &mut Value, part: Value| {
        let kind = header["parameters"]["b"].as_u64().unwrap() as usize;
        header["kinds"][kind]["arrays"]["schedule-free/z"] = part;
    };
    let group = |header: &mut Value, key: &str, value: Value| header["groups"][0]["state"][key] = value;
    let cases: [(&str, Change<'_>); 22] = [
        ("more steps than can be counted", &|p| group(&mut p.header, "k", json!(u64::MAX))),
        ("a negative number of steps", &|p| group(&mut p.header, "k", json!(-1))),
        ("more gradients than can be counted", &|p| parameter(&mut p.header, "updates", json!(u64::MAX))),
        ("a shape whose size overflows", &|p| {
            parameter(&mut p.header, "shape", json!([u64::MAX, u64::MAX]));
        }),
        ("a shape of the same size", &|p| parameter(&mut p.header, "shape", json!([32, 48]))),
        ("an element type that does not exist", &|p| parameter(&mut p.header, "dtype", json!("f8"))),
        ("d of 0", &|p| p.header["groups"][0]["state"]["estimate"]["d"] = json!(0.0)),
        ("a sum that is no number", &|p| group(&mut p.header, "scalars", json!({"x": null}))),
        ("no groups", &|p| p.header["groups"] = json!([])),
        ("a part of a joined array that is longer than it", &|p| joined(&mut p.header, json!(["f32", 7]))),
        ("a part that is longer than memory", &|p| joined(&mut p.header, json!(["f32", u64::MAX]))),
        ("a part that leaves something over", &|p| joined(&mut p.header, json!(["f32", 5]))),
        ("a part of no length", &|p| joined(&mut p.header, json!(["f32"]))),
        ("a joined array of another type", &|p| joined(&mut p.header, json!(["f64", 3]))),
        ("a joined array in the place of a parameter's own", &|p| joined(&mut p.header, json!(null))),
        ("a kind that is not there", &|p| p.header["parameters"]["b"] = json!(2)),
        ("all parameters of one kind", &|p| {
            p.header["parameters"]["b"] = p.header["parameters"]["w"].clone()
        }),
        ("an array that is not there", &|p| {
            p.arrays.retain(|(name, ..)| name != "w/schedule-free/z");
        }),
        ("an array too many", &|p| p.arrays.push(("x".to_owned(), Dtype::F32, vec![1], vec![0; 4]))),
        ("an array of bytes", &|p| {
            for (name, dtype, shape, bytes) in &mut p.arrays {
                if name == "w/schedule-free/z" {
                    (*dtype, *shape) = (Dtype::U8, vec![bytes.len()]);
                }
            }
        }),
        ("an array of float64", &|p| {
            for (name, dtype, shape, bytes) in &mut p.arrays {
                if name == "w/schedule-free/z" {
                    (*dtype, *shape) = (Dtype::F64, vec![bytes.len() / 8]);
                }
            }
        }),
        ("a header nested without end", &|p| {
            let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
            p.header = serde_json::from_str(&deep).unwrap();
        }),
    ];
    for (what, change) in cases {
        let mut parts = parts();
        change(&mut parts);
        let error = refused(&assembled(parts));
        assert!(matches!(error, Error::Damaged { .. } | Error::Misfit(_)), "{what}: {error:?}");
    }
}

#[test]
fn lengths_that_promise_more_than_the_file_has_allocate_nothing() {
    let whole = assembled(parts());
    let end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut long_header = whole.clone();
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    // The same digits in number, so that the header keeps its length.
    let text = String::from_utf8(whole[8..end].to_vec()).unwrap();
    let at = text.rfind("\"data_offsets\":[").unwrap();
    let list = text[at..].find(']').unwrap() + at;
    let hostile = format!("{}{}{}", &text[..at + 16], "9".repeat(list - at - 16), &text[list..]);
    let long_array = [&whole[..8], hostile.as_bytes(), &whole[end..]].concat();
    for bytes in [long_header, long_array, vec![0xff; 9], Vec::new()] {
        let mut allocated = 0;
        let info = allocation_counter::measure(|| allocated = refused(&bytes).to_string().len());
        assert!(allocated > 0);
        assert!(info.bytes_max < 100_000, "{} bytes", info.bytes_max);
    }
}

#[test]
fn a_kind_that_is_large_once_for_each_of_many_parameters_allocates_nothing() {
    let mut parts = parts();
    let kinds = parts.header["kinds"].as_array_mut().unwrap();
    let shape = vec![1_u64; 10_000];
    kinds.push(json!({"shape": shape, "dtype": "f32", "updates": 1, "arrays": {}}));
    for index in 0..10_000 {
        parts.header["parameters"][index.to_string()] = json!(2);
    }
    let bytes = assembled(parts);
    let info = allocation_counter::measure(|| {
        assert!(matches!(refused(&bytes), Error::Damaged { .. }));
    });
    // Written out, it is 800 MB.
    assert!(info.bytes_max < 20_000_000, "{} bytes", info.bytes_max);
}

#[test]
fn an_array_that_a_header_of_version_3_lists_twice_is_refused() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v3.safetensors");
    let mut parts = taken_apart(&std::fs::read(file).unwrap());
    let keys = parts.header["parameters"]["b"]["arrays"].as_array_mut().unwrap();
    keys.push(keys[0].clone());
    let error = refused(&assembled(parts)).to_string();
    assert!(error.contains("version 3"), "{error}");
}

/// JSON lets a key occur twice; which one counts must not depend on the reader.
#[test]
fn a_parameter_that_occurs_twice_is_refused() {
    let whole = assembled(parts());
    let end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let text = String::from_utf8(whole[8..end].to_vec()).unwrap();
    let twice = text.replace("\"joined/f32/schedule-free/z\"", "\"w/schedule-free/z\"");
    let bytes = [&(twice.len() as u64).to_le_bytes()[..], twice.as_bytes(), &whole[end..]].concat();
    refused(&bytes);
}

//! The example in the documentation of `OnWgpu`. As a test of documentation it would need a build of its own.

include!("documentation/on_wgpu.rs");

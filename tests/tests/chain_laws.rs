//! Laws of a chain of several transforms. Those of each are in its own crate.

use cautious::Cautious;
use factored_moment::FactoredMoment;
use prodigy_core::{Prodigy, Samples};
use schedule_free::ScheduleFree;
use stableadamw::StableAdamW;
use transform_laws::{Boxed, Problem, identities_change_nothing};

/// Sums of several chunks, too, are the same bits whatever else is in the chain.
#[test]
fn an_identity_changes_no_bit_of_a_tensor_longer_than_a_chunk() {
    let members = || -> Vec<Boxed<f32>> {
        let beta3 = 0.9_f64.sqrt();
        vec![
            Box::new(FactoredMoment::new(0.9)),
            Box::new(StableAdamW),
            Box::new(Prodigy { samples: Samples::new(beta3), d0: 1e-3, ..Prodigy::new(beta3) }),
            Box::new(ScheduleFree::new(0.9)),
            Box::new(Cautious::default()),
        ]
    };
    let problem = Problem::of(&[&[1031, 517]], 2);
    let found = identities_change_nothing::<f32, f32>("the default chain", &members, 1.0, &problem);
    assert_eq!(found, Ok(()));
}

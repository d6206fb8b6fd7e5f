//! State of a run between two steps, from which the run itself or others continue.
//!
//! As a file: the SHA-256 of all that follows, a line of JSON, the weights, and the optimizer's state as a checkpoint.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::record::Forked;
use crate::run::Observed;

/// State of a run between two steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prefix {
    /// Observations of the run so far.
    pub(crate) seen: Observed,
    /// At the training point, in the order of the groups.
    pub(crate) weights: Vec<Vec<f32>>,
    /// [`TrainableOptimizer::state`](crate::optimizer::TrainableOptimizer::state).
    pub(crate) optimizer: Vec<u8>,
    /// Beginning of a run that was itself forked from another one.
    pub(crate) forked: Option<Forked>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    seen: Observed,
    /// Elements of each parameter.
    sizes: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forked: Option<Forked>,
}

const DIGEST: usize = 64;

impl Prefix {
    /// Whether another one is the same except for the time that it took.
    pub(crate) fn is_same_state(&self, other: &Self) -> bool {
        let bits = |prefix: &Self| -> Vec<u32> {
            prefix.weights.iter().flatten().map(|value| value.to_bits()).collect()
        };
        self.seen.timeless() == other.seen.timeless()
            && self.optimizer == other.optimizer
            && bits(self) == bits(other)
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>> {
        let sizes = self.weights.iter().map(Vec::len).collect();
        let head = Head { seen: self.seen.clone(), sizes, forked: self.forked.clone() };
        let mut body = serde_json::to_vec(&head)?;
        body.push(b'\n');
        body.extend(self.weights.iter().flatten().flat_map(|value| value.to_le_bytes()));
        body.extend(&self.optimizer);
        let mut bytes = hex(&body).into_bytes();
        bytes.extend(body);
        Ok(bytes)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (digest, body) = bytes.split_at_checked(DIGEST).context("it is too short")?;
        ensure!(hex(body).as_bytes() == digest, "its checksum is not that of its content");
        let end = body.iter().position(|byte| *byte == b'\n').context("it has no head")?;
        let Head { seen, sizes, forked } =
            serde_json::from_slice(&body[..end]).context("a state of another version")?;
        let mut rest = &body[end + 1..];
        let mut weights = Vec::with_capacity(sizes.len());
        for size in sizes {
            let (values, others) =
                rest.split_at_checked(size * size_of::<f32>()).context("it has too few weights")?;
            let value = |bytes: &[u8]| bytes.try_into().map_or(f32::NAN, f32::from_le_bytes);
            weights.push(values.chunks_exact(size_of::<f32>()).map(value).collect());
            rest = others;
        }
        Ok(Self { seen, weights, optimizer: rest.to_vec(), forked })
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written_and_a_damaged_one_is_noticed_wherever_it_is() {
        let weights = vec![vec![1.5_f32, -0.0, f32::MIN_POSITIVE], vec![], vec![f32::MAX]];
        let prefix =
            Prefix { seen: Observed::new(&weights), weights, optimizer: b"\nstate".to_vec(), forked: None };
        let whole = prefix.to_bytes().unwrap();
        assert_eq!(Prefix::from_bytes(&whole).unwrap(), prefix);
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            assert!(Prefix::from_bytes(&damaged).is_err(), "byte {position}");
            assert!(Prefix::from_bytes(&whole[..position]).is_err(), "the first {position} bytes");
        }
    }
}

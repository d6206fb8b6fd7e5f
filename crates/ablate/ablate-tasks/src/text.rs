//! Jane Austen's *Persuasion* as characters, which several tasks read.

use std::io::Read;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use candle_nn::loss::cross_entropy;
use flate2::read::GzDecoder;
use rand::Rng;

use crate::random::{Purpose, generator};
use crate::task::{Batch, Evaluation, Split};

const DATA: &[u8] = include_bytes!("../data/persuasion.txt.gz");

/// Characters that are distinguished: letters without their case, white space as one, and the commonest marks.
/// Everything else is the last.
pub(crate) const ALPHABET: &[u8] = b" abcdefghijklmnopqrstuvwxyz,.;'\"-!?:#";

/// Windows of an evaluation, evenly spaced over the split.
pub(crate) const WINDOWS: usize = 48;

/// Windows that are evaluated together.
const TOGETHER: usize = 16;

/// The text as places in the alphabet: the first 80 % for training, then 10 % for validation and 10 % for the test.
pub(crate) struct Text {
    train: Vec<u32>,
    validation: Vec<u32>,
    test: Vec<u32>,
}

impl Text {
    /// Reads the data that is compiled into the program.
    pub(crate) fn load() -> Result<Self> {
        let letters = letters()?;
        let tenth = letters.len() / 10;
        Ok(Self {
            train: letters[..8 * tenth].to_vec(),
            validation: letters[8 * tenth..9 * tenth].to_vec(),
            test: letters[9 * tenth..].to_vec(),
        })
    }

    pub(crate) fn split(&self, split: Split) -> &[u32] {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// Beginnings of windows of the training split, drawn at random.
    pub(crate) fn batch(&self, seed: u64, step: usize, windows: usize, context: usize) -> Batch {
        let mut generator = generator(seed, Purpose::Order(step));
        let last = self.train.len() - context - 1;
        let examples = (0..windows).map(|_| generator.random_range(0..=last as u32)).collect();
        Batch { seed, step, examples }
    }

    /// The mean cross-entropy, in nats, of the characters that follow each of the windows' own. `logits` takes the
    /// windows one after the other, on the device, and their number.
    pub(crate) fn loss(
        &self,
        split: Split,
        starts: &[u32],
        context: usize,
        device: &Device,
        logits: impl Fn(&Tensor, usize) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let letters = self.split(split);
        let windows = |shift: usize| -> Result<Tensor> {
            let window = |&start: &u32| letters[start as usize + shift..][..context].to_vec();
            let flat: Vec<u32> = starts.iter().flat_map(window).collect();
            Ok(Tensor::from_vec(flat, starts.len() * context, device)?)
        };
        Ok(cross_entropy(&logits(&windows(0)?, starts.len())?, &windows(1)?)?)
    }

    /// The mean loss over windows of a split.
    pub(crate) fn evaluate(
        &self,
        split: Split,
        context: usize,
        device: &Device,
        logits: impl Fn(&Tensor, usize) -> Result<Tensor>,
    ) -> Result<Evaluation> {
        let last = self.split(split).len() - context - 1;
        let starts: Vec<u32> = (0..WINDOWS).map(|window| (window * last / (WINDOWS - 1)) as u32).collect();
        let mut sum = 0.0;
        for starts in starts.chunks(TOGETHER) {
            let loss = self.loss(split, starts, context, device, &logits)?;
            sum += f64::from(loss.to_scalar::<f32>()?) * starts.len() as f64;
        }
        Ok(Evaluation { loss: sum / WINDOWS as f64, accuracy: None })
    }
}

/// The text as places in the alphabet, runs of white space as one.
fn letters() -> Result<Vec<u32>> {
    let mut text = String::new();
    GzDecoder::new(DATA).read_to_string(&mut text).context(
        "persuasion.txt.gz cannot be decompressed; restore it (crates/ablate/ablate-tasks/data/README.md says from where)",
    )?;
    let other = ALPHABET.len() - 1;
    let mut letters: Vec<u32> = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        let byte = if byte.is_ascii_whitespace() { b' ' } else { byte.to_ascii_lowercase() };
        let place = ALPHABET.iter().position(|letter| *letter == byte).unwrap_or(other) as u32;
        if place != 0 || letters.last() != Some(&0) {
            letters.push(place);
        }
    }
    Ok(letters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_text_is_the_one_whose_source_is_named() {
        let digest: String = Sha256::digest(DATA).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, "4f03c434e94a3cac0b6f97562f194c278ad8035d47129cbc7bcedc204014e985");
        let letters = letters().unwrap();
        let text: String =
            letters[10..50].iter().map(|&letter| char::from(ALPHABET[letter as usize])).collect();
        assert_eq!(text, "sir walter elliot, of kellynch hall, in ");
    }
}

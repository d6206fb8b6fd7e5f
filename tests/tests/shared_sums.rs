//! Sums over all tensors, before any of them moves.

use gradient_transform::{
    Backend, Context, Descent, Element, Error, GradientTransform, Link, NonFinite, Num, Optimizer, Parameter,
    ParameterGroup, Settings, SumsOver, fields, fused, transform,
};
use stableadamw::StableAdamW;

/// `u <- u / max(1, |u|/most)`, with the norm over several tensors.
#[derive(Clone, Copy, Debug)]
struct Clip {
    name: &'static str,
    most: f64,
    over: SumsOver,
}

#[fields]
struct Squares<V> {
    squares: V,
}

#[fields]
struct Factor<V> {
    factor: V,
}

#[transform]
impl GradientTransform for Clip {
    type Sums<V: Copy> = Squares<V>;
    type Scalars<V: Copy> = Factor<V>;

    fn name(&self) -> &str {
        self.name
    }

    fn sums_over(&self) -> SumsOver {
        self.over
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        Squares { squares: e.update.squared() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Factor<f64>) {
        scalars.factor = 1.0 / (sums.squares.sqrt() / self.most).max(1.0);
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        e.update = e.scalars.factor * e.update;
    }
}

const CLIP: Clip = Clip { name: "clip", most: 1.0, over: SumsOver::All };
/// One of less than a block, one of more than a tile, one of more than a chunk.
const SIZES: [usize; 4] = [7, 3000, 600_001, 40];

fn gradients() -> Vec<Vec<f64>> {
    let element = |tensor: usize, i: usize| ((i * (tensor + 3)) as f64 * 0.37).sin();
    SIZES.iter().enumerate().map(|(tensor, &n)| (0..n).map(|i| element(tensor, i)).collect()).collect()
}

fn step(optimizer: &mut Optimizer<f64>, gradients: &[Option<&[f64]>]) -> Result<Vec<Vec<f64>>, Error> {
    let mut values: Vec<Vec<f64>> = SIZES.iter().map(|&n| vec![0.0; n]).collect();
    let both = values.iter_mut().zip(gradients);
    let mut parameters: Vec<Parameter<'_>> = both.map(|(w, g)| Parameter::slice(w, *g)).collect();
    optimizer.step(&mut parameters)?;
    drop(parameters);
    Ok(values)
}

fn all(gradients: &[Vec<f64>]) -> Vec<Option<&[f64]>> {
    gradients.iter().map(|g| Some(&g[..])).collect()
}

/// Two groups of two tensors each.
fn groups(chains: [Box<dyn Link<f64>>; 2]) -> Result<Optimizer<f64>, Error> {
    let names = [["a", "b"], ["c", "d"]];
    let mut at = 0;
    let groups = chains.into_iter().zip(names).map(|(chain, names)| {
        let shapes = [[SIZES[at]], [SIZES[at + 1]]];
        at += 2;
        let parameters: Vec<(&str, &[usize])> =
            names.into_iter().zip(shapes.iter().map(|s| &s[..])).collect();
        ParameterGroup::new(chain, parameters)
    });
    Optimizer::with_groups(groups, Settings::default())
}

fn norm<'a>(gradients: impl IntoIterator<Item = &'a Vec<f64>>) -> f64 {
    gradients.into_iter().flatten().map(|g| g * g).sum::<f64>().sqrt()
}

fn assert_scaled(moved: &[f64], gradient: &[f64], factor: f64) {
    for (w, g) in moved.iter().zip(gradient) {
        assert!((w + factor * g).abs() <= 1e-12, "{w} {g} {factor}");
    }
}

#[test]
fn the_norm_over_all_tensors_of_all_groups_is_that_of_one_long_vector() {
    let gradients = gradients();
    let ours = || -> Box<dyn Link<f64>> { Box::new((CLIP, Descent::default())) };
    let shipped = elementary::ClipByNorm { over: SumsOver::All, ..elementary::ClipByNorm::default() };
    let theirs = || -> Box<dyn Link<f64>> { Box::new((shipped, Descent::default())) };
    for chains in [[ours(), ours()], [theirs(), theirs()]] {
        let moved = step(&mut groups(chains).unwrap(), &all(&gradients)).unwrap();
        for (moved, gradient) in moved.iter().zip(&gradients) {
            assert_scaled(moved, gradient, 1.0 / norm(&gradients));
        }
    }
}

#[test]
fn the_norm_over_a_group_is_that_of_its_tensors() {
    let gradients = gradients();
    let chain = || Box::new((Clip { over: SumsOver::Group, ..CLIP }, Descent::default()));
    let moved = step(&mut groups([chain(), chain()]).unwrap(), &all(&gradients)).unwrap();
    for (at, moved) in moved.iter().enumerate() {
        assert_scaled(moved, &gradients[at], 1.0 / norm(&gradients[at / 2 * 2..][..2]));
    }
}

#[test]
fn tensors_without_a_gradient_and_groups_without_the_transform_do_not_count() {
    let gradients = gradients();
    let mut given = all(&gradients);
    given[1] = None;
    let chains: [Box<dyn Link<f64>>; 2] =
        [Box::new((CLIP, Descent::default())), Box::new(Descent::default())];
    let mut optimizer = groups(chains).unwrap();
    // The sums of the step before are no part of the next one.
    step(&mut optimizer, &all(&gradients)).unwrap();
    let moved = step(&mut optimizer, &given).unwrap();
    assert_scaled(&moved[0], &gradients[0], 1.0 / norm(&gradients[..1]).max(1.0));
    assert_eq!(norm([&moved[1]]), 0.0);
    assert_scaled(&moved[2], &gradients[2], 1.0);
}

#[test]
fn fused_loops_and_reductions_before_and_behind_change_no_bit() {
    let gradients = gradients();
    let (second, last) = (Clip { name: "second", most: 0.1, ..CLIP }, StableAdamW);
    let link_by_link = || Box::new((CLIP, last, second, Descent::default()));
    let in_one_loop = || Box::new(fused((CLIP, last, second, Descent::default())));
    let expected = step(&mut groups([link_by_link(), link_by_link()]).unwrap(), &all(&gradients)).unwrap();
    let found = step(&mut groups([in_one_loop(), in_one_loop()]).unwrap(), &all(&gradients)).unwrap();
    assert!(expected == found);
    assert!((norm(&expected) - 0.1).abs() < 1e-12);
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let gradients = gradients();
    let chain = || Box::new((StableAdamW, CLIP, Descent::default()));
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| step(&mut groups([chain(), chain()]).unwrap(), &all(&gradients)).unwrap())
    };
    let expected = on(1);
    assert!((2..=8).all(|threads| on(threads) == expected));
}

#[test]
fn nothing_moves_where_a_gradient_is_not_finite_and_the_next_step_goes_as_if_it_had_not_been() {
    let mut gradients = gradients();
    let chain = || Box::new((CLIP, Descent::default()));
    let mut optimizer = groups([chain(), chain()]).unwrap();
    step(&mut optimizer, &all(&gradients)).unwrap();
    let usual = std::mem::replace(&mut gradients[3][5], f64::NAN);
    let refused = step(&mut optimizer, &all(&gradients)).unwrap_err();
    assert!(
        matches!(refused, Error::NonFiniteGradient { ref name, index: 5, .. } if name == "d"),
        "{refused}"
    );
    gradients[3][5] = usual;
    let moved = step(&mut optimizer, &all(&gradients)).unwrap();
    assert_scaled(&moved[3], &gradients[3], 1.0 / norm(&gradients));
}

#[test]
fn where_gradients_are_not_examined_the_norm_is_the_same() {
    let gradients = gradients();
    let parameters: Vec<(String, Vec<usize>)> =
        SIZES.iter().enumerate().map(|(i, &n)| (i.to_string(), vec![n])).collect();
    let group = ParameterGroup::new(
        (CLIP, Descent::default()),
        parameters.iter().map(|(name, shape)| (name.clone(), &shape[..])),
    );
    let settings = Settings { non_finite: NonFinite::Unchecked, ..Settings::default() };
    let mut optimizer = Optimizer::with_groups([group], settings).unwrap();
    for _ in 0..2 {
        let moved = step(&mut optimizer, &all(&gradients)).unwrap();
        assert_scaled(&moved[2], &gradients[2], 1.0 / norm(&gradients));
    }
}

#[test]
fn clipping_by_the_global_norm_reads_the_gradients_once_more() {
    let gradients = gradients();
    let traffic = |chain: fn() -> Box<dyn Link<f64>>| {
        let mut optimizer = groups([chain(), chain()]).unwrap();
        step(&mut optimizer, &all(&gradients)).unwrap();
        optimizer.planned_traffic()
    };
    let (without, sweeps_without) = traffic(|| Box::new(Descent::default()));
    let (with, sweeps) = traffic(|| Box::new((CLIP, Descent::default())));
    let bytes: usize = SIZES.iter().map(|n| n * size_of::<f64>()).sum();
    assert_eq!((with - without, sweeps - sweeps_without), (bytes as u64, 1));
}

#[test]
fn a_step_whose_gradients_come_one_by_one_is_refused() {
    let chain = || Box::new((CLIP, Descent::default()));
    let mut optimizer = groups([chain(), chain()]).unwrap();
    let refused = optimizer.begin_step().err();
    assert_eq!(refused, Some(Error::NeedsAllGradients { transform: "clip".into() }));
    // With another chain it goes.
    optimizer.replace_chain(0, Descent::default()).unwrap();
    assert!(optimizer.begin_step().is_err());
    optimizer.replace_chain(1, Descent::default()).unwrap();
    assert!(optimizer.begin_step().is_ok());
}

#[test]
fn groups_that_complete_their_sums_in_different_orders_are_refused() {
    let other = Clip { name: "other", ..CLIP };
    let refused =
        groups([Box::new((CLIP, other, Descent::default())), Box::new((other, CLIP, Descent::default()))]);
    assert!(
        matches!(refused.err(), Some(Error::Excluded { first, second, .. }) if first == "clip" && second == "other")
    );
    let mut optimizer =
        groups([Box::new((CLIP, other, Descent::default())), Box::new((other, Descent::default()))]).unwrap();
    assert!(optimizer.replace_chain(1, (other, CLIP, Descent::default())).is_err());
    let moved = step(&mut optimizer, &all(&gradients())).unwrap();
    assert!(norm(&moved) > 0.0);
}

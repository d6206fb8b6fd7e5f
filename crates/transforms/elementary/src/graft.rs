use std::marker::PhantomData;

use gradient_transform::{
    Backend, Column, Context, Element, ElementOf, Error, Fields, GradientTransform, Nothing, Num, Result,
    StepContext, StepSummary, TensorInfo, fields, kind, transform,
};

use crate::average::Factor;

/// Grafting: the size of one update with the direction of another, tensor by tensor.
///
/// ```text
/// u <- |a| / |b| b      a and b: what the two transforms make of u; 0 where b is 0
/// ```
///
/// Agarwal et al., 2002.11803, algorithm 1: the size of a transform whose learning rate is known, with the direction of one that is tried
/// out. Both get the same incoming update, and keep their state as `graft/size.field` and
/// `graft/direction.field`, each as if it were on its own.
/// [`Sign`](crate::Sign) as the size gives an update of one length for any gradients.
///
/// The two are functions of one element: [`Adam`](crate::Adam), [`Momentum`](crate::Momentum), [`AdaGrad`](crate::AdaGrad) and so on, with or
/// without state. A transform with sums, arrays along axes or numbers for a group is an error, because the
/// norms for grafting would have to wait for these. On a tensor to which one of them does not apply, that
/// transform is the identity: `a` or `b` is u. Stands in the place of the two. Needs the whole tensor, so the
/// chain is cut after it; both transforms are computed twice. Keeps the state of both.
///
/// ```
/// use elementary::{AdamMoment, Graft, Momentum};
/// use gradient_transform::{Descent, Optimizer, Parameter};
///
/// let graft = Graft { size: Momentum::default(), direction: AdamMoment::default() };
/// let mut optimizer = Optimizer::new((graft, Descent::default()), [("w", [2])])?;
/// let mut w = [0.0_f32, 0.0];
/// optimizer.step(&mut [Parameter::slice(&mut w, Some(&[3.0, -4.0]))])?;
/// let half = 0.5_f32.sqrt(); // the length of the gradient, along its signs
/// assert!((w[0] + 5.0 * half).abs() < 1e-5 && (w[1] - 5.0 * half).abs() < 1e-5);
/// assert!(optimizer.snapshot().tensors["w"].arrays.keys().eq(["graft/direction.v", "graft/size.m"]));
/// # Ok::<(), gradient_transform::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Graft<A, D> {
    /// The transform that gives the size of the update.
    pub size: A,
    /// The transform that gives the direction of the update.
    pub direction: D,
}

/// Fields of the two transforms, and those of Graft itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Branches<F, G, N> {
    size: F,
    direction: G,
    own: N,
}

/// Names of the fields of [`Branches`], with the branch in front.
struct Names<V, F, G, N>(PhantomData<(V, F, G, N)>);

/// Bytes of at most this many names, of at most this length each.
const MOST: usize = 32;
const LONGEST: usize = 64;

#[derive(Clone, Copy)]
struct Joined {
    bytes: [[u8; LONGEST]; MOST],
    lengths: [usize; MOST],
    count: usize,
}

const fn join(mut joined: Joined, branch: &str, names: &[&str]) -> Joined {
    assert!(
        joined.count + names.len() <= MOST,
        "grafted transforms have at most 32 arrays and numbers in all"
    );
    let mut name = 0;
    while name < names.len() {
        assert!(
            branch.len() + names[name].len() <= LONGEST,
            "the name of an array or number of a grafted transform is too long"
        );
        let parts = [branch.as_bytes(), names[name].as_bytes()];
        let (mut part, mut length) = (0, 0);
        while part < parts.len() {
            let mut at = 0;
            while at < parts[part].len() {
                joined.bytes[joined.count][length] = parts[part][at];
                (at, length) = (at + 1, length + 1);
            }
            part += 1;
        }
        joined.lengths[joined.count] = length;
        joined.count += 1;
        name += 1;
    }
    joined
}

impl<V: Copy, F: Fields<V>, G: Fields<V>, N: Fields<V>> Names<V, F, G, N> {
    const JOINED: Joined = {
        let none = Joined { bytes: [[0; LONGEST]; MOST], lengths: [0; MOST], count: 0 };
        join(join(join(none, "size.", F::NAMES), "direction.", G::NAMES), "", N::NAMES)
    };
    const BYTES: &'static Joined = &Self::JOINED;
    const ALL: [&'static str; MOST] = {
        let (mut names, mut name) = ([""; MOST], 0);
        while name < Self::BYTES.count {
            let (bytes, _) = Self::BYTES.bytes[name].split_at(Self::BYTES.lengths[name]);
            names[name] = match str::from_utf8(bytes) {
                Ok(text) => text,
                Err(_) => panic!("names are joined whole"),
            };
            name += 1;
        }
        names
    };
    const STORED: &'static [&'static str; MOST] = &Self::ALL;
}

impl<V: Copy, F: Fields<V>, G: Fields<V>, N: Fields<V>> Fields<V> for Branches<F, G, N> {
    const NAMES: &'static [&'static str] =
        Names::<V, F, G, N>::STORED.split_at(Names::<V, F, G, N>::BYTES.count).0;

    #[inline(always)]
    fn from_fn(mut value: impl FnMut(usize) -> V) -> Self {
        let (first, second) = (F::NAMES.len(), F::NAMES.len() + G::NAMES.len());
        Self {
            size: F::from_fn(&mut value),
            direction: G::from_fn(
                #[inline(always)]
                |i| value(first + i),
            ),
            own: N::from_fn(
                #[inline(always)]
                |i| value(second + i),
            ),
        }
    }

    #[inline(always)]
    fn get(&self, index: usize) -> V {
        let (first, second) = (F::NAMES.len(), F::NAMES.len() + G::NAMES.len());
        if index < first {
            self.size.get(index)
        } else if index < second {
            self.direction.get(index - first)
        } else {
            self.own.get(index - second)
        }
    }

    #[inline(always)]
    fn iter(&self) -> impl Iterator<Item = &V>
    where
        V: 'static,
    {
        self.size.iter().chain(self.direction.iter()).chain(self.own.iter())
    }

    #[inline(always)]
    fn iter_mut(&mut self) -> impl Iterator<Item = &mut V>
    where
        V: 'static,
    {
        self.size.iter_mut().chain(self.direction.iter_mut()).chain(self.own.iter_mut())
    }
}

/// Sums of squares of the two updates.
#[fields]
pub struct Squares<V> {
    /// The update that gives the size.
    pub size: V,
    /// The update that gives the direction.
    pub direction: V,
}

/// An element as the input of one of the two transforms.
#[inline(always)]
fn element<B: Backend, S, K, A, G: GradientTransform>(
    e: &ElementOf<B, S, K, A>,
    state: G::State<Num<B>>,
    scalars: G::Scalars<Num<B>>,
    variant: u32,
) -> Element<B, G> {
    let zero = e.update.constant(0.0);
    ElementOf {
        update: e.update,
        gradient: e.gradient,
        parameter: e.parameter,
        base: e.base,
        direction: e.direction,
        state,
        scalars,
        along: Fields::from_fn(
            #[inline(always)]
            |_| zero,
        ),
        variant,
    }
}

/// Number of formulas of a transform: its own, and after them the identity.
#[inline(always)]
fn formulas(transform: &impl GradientTransform) -> u32 {
    transform.variants() + 1
}

/// The formula of a transform for a tensor in a step.
fn formula<G: GradientTransform>(transform: &G, cx: &Context<'_>, scalars: &G::Scalars<f64>) -> u32 {
    if transform.applies(cx.tensor) { transform.variant(cx, scalars) } else { transform.variants() }
}

/// Arrays of a transform for a tensor.
fn columns<G: GradientTransform>(transform: &G, tensor: &TensorInfo) -> G::State<Column> {
    if transform.applies(tensor) { transform.columns(tensor) } else { Fields::from_fn(|_| Column::ABSENT) }
}

/// Rejects a transform that is not a function of one element.
fn check<G: GradientTransform>(transform: &G) -> Result<()> {
    transform.validate()?;
    let sums = <G::Sums<f64> as Fields<f64>>::NAMES.len() + <G::Along<usize> as Fields<usize>>::NAMES.len();
    if sums > 0 || !transform.group_scalars().is_empty() {
        let reason = format!(
            "`{}` is more than a function of one element, and only such can be grafted: it has sums, arrays along axes, or numbers for a group",
            transform.name()
        );
        return Err(Error::InvalidChain { chain: "graft".into(), reason });
    }
    Ok(())
}

impl<A, D> Graft<A, D>
where
    A: GradientTransform<Kind = kind::Update>,
    D: GradientTransform<Kind = kind::Update>,
{
    /// An element after either of the two.
    #[inline(always)]
    fn both<B: Backend>(&self, e: &Element<B, Self>) -> (Element<B, A>, Element<B, D>) {
        let of_direction = formulas(&self.direction);
        let mut size = element::<B, _, _, _, A>(e, e.state.size, e.scalars.size, e.variant / of_direction);
        let mut direction =
            element::<B, _, _, _, D>(e, e.state.direction, e.scalars.direction, e.variant % of_direction);
        if size.variant < self.size.variants() {
            self.size.update(&mut size);
        }
        if direction.variant < self.direction.variants() {
            self.direction.update(&mut direction);
        }
        (size, direction)
    }
}

#[transform("graft")]
impl<A, D> GradientTransform for Graft<A, D>
where
    A: GradientTransform<Kind = kind::Update>,
    D: GradientTransform<Kind = kind::Update>,
{
    type State<V: Copy> = Branches<A::State<V>, D::State<V>, Nothing<V>>;
    type Scalars<V: Copy> = Branches<A::Scalars<V>, D::Scalars<V>, Factor<V>>;
    type Sums<V: Copy> = Squares<V>;

    fn validate(&self) -> Result<()> {
        check(&self.size)?;
        check(&self.direction)?;
        if self.size.excludes().is_empty() || self.direction.excludes().is_empty() {
            return Ok(());
        }
        let (size, direction) = (self.size.name(), self.direction.name());
        let reason =
            format!("`{size}` and `{direction}` both exclude other transforms; graft one of them at most");
        Err(Error::InvalidChain { chain: "graft".into(), reason })
    }

    fn excludes(&self) -> &[(&'static str, &'static str)] {
        let of_size = self.size.excludes();
        if of_size.is_empty() { self.direction.excludes() } else { of_size }
    }

    fn applies(&self, tensor: &TensorInfo) -> bool {
        self.size.applies(tensor) || self.direction.applies(tensor)
    }

    fn columns(&self, tensor: &TensorInfo) -> Self::State<Column> {
        Branches {
            size: columns(&self.size, tensor),
            direction: columns(&self.direction, tensor),
            own: Fields::from_fn(|_| Column::ABSENT),
        }
    }

    fn kept(&self) -> Self::Scalars<bool> {
        Branches { size: self.size.kept(), direction: self.direction.kept(), own: Factor { factor: false } }
    }

    fn begin_step(&self, _scalars: &[f64], step: &mut StepContext) {
        self.size.begin_step(&[], step);
        self.direction.begin_step(&[], step);
    }

    fn check_step(&self, step: &StepContext) -> Result<()> {
        self.size.check_step(step)?;
        self.direction.check_step(step)
    }

    fn end_step(&self, step: &StepContext, summary: &StepSummary, _scalars: &mut [f64]) {
        self.size.end_step(step, summary, &mut []);
        self.direction.end_step(step, summary, &mut []);
    }

    fn begin(&self, cx: &Context<'_>, scalars: &mut Self::Scalars<f64>) {
        if self.size.applies(cx.tensor) {
            self.size.begin(cx, &mut scalars.size);
        }
        if self.direction.applies(cx.tensor) {
            self.direction.begin(cx, &mut scalars.direction);
        }
    }

    fn measure<B: Backend>(&self, e: &Element<B, Self>) -> Squares<Num<B>> {
        let (size, direction) = self.both(e);
        Squares { size: size.update.squared(), direction: direction.update.squared() }
    }

    fn finalize(&self, _cx: &Context<'_>, sums: Squares<f64>, scalars: &mut Self::Scalars<f64>) {
        let Squares { size, direction } = sums;
        scalars.own.factor = if direction > 0.0 { size.sqrt() / direction.sqrt() } else { 0.0 };
    }

    fn variant(&self, cx: &Context<'_>, scalars: &Self::Scalars<f64>) -> u32 {
        let of_direction = formula(&self.direction, cx, &scalars.direction);
        formula(&self.size, cx, &scalars.size) * formulas(&self.direction) + of_direction
    }

    fn variants(&self) -> u32 {
        formulas(&self.size) * formulas(&self.direction)
    }

    fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
        let (size, direction) = self.both(e);
        (e.state.size, e.state.direction) = (size.state, direction.state);
        e.update = e.scalars.own.factor * direction.update;
    }
}

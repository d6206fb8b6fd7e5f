//! Chains: tuples, options and boxes of transforms are transforms.

use smallvec::SmallVec;

use crate::element::Real;
use crate::transform::GradientTransform;

/// A chain's transforms in order, compositions resolved.
pub(crate) type Stages<'a, T> = [&'a dyn GradientTransform<T>];

pub(crate) type StageList<'a, T> = SmallVec<[&'a dyn GradientTransform<T>; 16]>;

pub(crate) fn stages<T: Real>(chain: &dyn GradientTransform<T>) -> StageList<'_, T> {
    fn collect<'a, T: Real>(transform: &'a dyn GradientTransform<T>, into: &mut StageList<'a, T>) {
        if !transform.members(&mut |member| collect(member, into)) {
            into.push(transform);
        }
    }
    let mut into = StageList::new();
    collect(chain, &mut into);
    into
}

/// `None` is the identity: a transform that can be switched off.
impl<T: Real, G: GradientTransform<T>> GradientTransform<T> for Option<G> {
    fn name(&self) -> &str {
        self.as_ref().map_or("none", |inner| inner.name())
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn GradientTransform<T>)) -> bool {
        if let Some(inner) = self {
            visit(inner);
        }
        true
    }
}

/// The form for chains that are chosen at run time.
impl<T: Real> GradientTransform<T> for Box<dyn GradientTransform<T>> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn GradientTransform<T>)) -> bool {
        visit(&**self);
        true
    }
}

/// A list of transforms, run in order.
impl<T: Real, G: GradientTransform<T>> GradientTransform<T> for Vec<G> {
    fn name(&self) -> &str {
        "chain"
    }

    fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn GradientTransform<T>)) -> bool {
        self.iter().for_each(|member| visit(member));
        true
    }
}

macro_rules! tuple {
    ($($member:ident $index:tt),+) => {
        /// The members, run in order.
        impl<T: Real, $($member: GradientTransform<T>),+> GradientTransform<T> for ($($member,)+) {
            fn name(&self) -> &str {
                "chain"
            }

            fn members<'a>(&'a self, visit: &mut dyn FnMut(&'a dyn GradientTransform<T>)) -> bool {
                $(visit(&self.$index);)+
                true
            }
        }
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);

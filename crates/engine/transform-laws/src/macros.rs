/// A [`Row`](crate::Row): a transform in a chain, its laws and its formula.
///
/// `before` and `after` are the other members of the chain; `instead` replaces the transform when it is left
/// out: a writer for a writer, the wrapped transform for a wrapper. Each may be absent. The expressions must
/// be valid in float32 and in float64.
///
/// ```
/// use gradient_transform::prelude::author::*;
/// use gradient_transform::{Descent, only_for};
/// use transform_laws::{Laws, Scale, formula, row};
///
/// #[derive(Clone, Debug)]
/// struct Signs;
///
/// #[transform("signs")]
/// impl GradientTransform for Signs {
///     fn update<B: Backend>(&self, e: &mut Element<B, Self>) {
///         e.update = e.update.sign();
///     }
/// }
///
/// let row = row!(signs_in_place_of_signs_of_matrices {
///     transform: Signs,
///     instead: [only_for(|tensor| tensor.shape.len() > 1, Signs)],
///     after: [Descent::default()],
///     laws: Laws { scale: Scale::Invariant, ..Laws::default() },
///     formula: |problem, lr| formula::descent(problem, lr, 0.0, || {
///         formula::elementwise(|_, g, _, []| formula::sign(g))
///     }),
/// });
/// assert_eq!(row.name, "signs_in_place_of_signs_of_matrices");
/// ```
#[macro_export]
macro_rules! row {
    ($name:ident {
        $(before: [$($before:expr),+ $(,)?],)?
        transform: $transform:expr,
        $(instead: [$($instead:expr),+ $(,)?],)?
        $(after: [$($after:expr),+ $(,)?],)?
        laws: $laws:expr,
        formula: $formula:expr $(,)?
    }) => {{
        fn chain<T: $crate::__private::Real>(on: bool) -> $crate::Boxed<T> {
            Box::new((
                $($($before,)+)?
                on.then(|| $transform),
                $($((!on).then(|| $instead),)+)?
                $($($after,)+)?
            ))
        }

        fn members<T: $crate::__private::Real>() -> Vec<$crate::Boxed<T>> {
            vec![$($(Box::new($before),)+)? Box::new($transform), $($(Box::new($after),)+)?]
        }

        fn without<T: $crate::__private::Real>() -> $crate::Boxed<T> {
            Box::new(($($($before,)+)? $($($instead,)+)? $($($after,)+)?))
        }

        fn twice() -> Vec<$crate::Boxed<f32>> {
            vec![
                $($(Box::new($before),)+)?
                Box::new($transform),
                Box::new($transform),
                $($(Box::new($after),)+)?
            ]
        }

        fn toggled() -> Vec<String> {
            fn name(transform: impl $crate::__private::Link<f32>) -> String {
                transform.name().to_owned()
            }
            vec![name($transform), $($(name($instead),)+)?]
        }

        let formula: fn(&$crate::Problem, f64) -> $crate::Trajectory = $formula;
        $crate::Row {
            name: stringify!($name),
            laws: $laws,
            single: $crate::Chains { chain, members, without },
            double: $crate::Chains { chain, members, without },
            twice,
            toggled,
            formula,
        }
    }};
}

/// A module for each [`row!`](crate::row!), with a test for each [`Law`](crate::Law), so that a failure names both.
#[macro_export]
macro_rules! laws {
    ($($(#[$note:meta])* $row:ident { $($body:tt)+ })+) => {
        $($(#[$note])*
        mod $row {
            #[allow(unused_imports)]
            use super::*;

            fn row() -> $crate::Row {
                $crate::row!($row { $($body)+ })
            }

            fn assert_holds(law: $crate::Law) {
                if let Err(broken) = law.check(&row()) {
                    panic!("{broken}");
                }
            }

            #[test]
            fn state_round_trips_through_bytes_in_float32() {
                assert_holds($crate::Law::BytesInFloat32);
            }

            #[test]
            fn state_round_trips_through_bytes_in_bfloat16_with_stochastic_rounding() {
                assert_holds($crate::Law::BytesInBfloat16);
            }

            #[test]
            fn state_round_trips_through_bytes_in_float64() {
                assert_holds($crate::Law::BytesInFloat64);
            }

            #[test]
            fn powers_of_two_act_as_its_law_of_scale_says() {
                assert_holds($crate::Law::Scale);
            }

            #[test]
            fn negated_gradients_and_parameters_negate_the_trajectory() {
                assert_holds($crate::Law::Odd);
            }

            #[test]
            fn zero_gradients_make_no_nan_and_move_only_what_they_should() {
                assert_holds($crate::Law::Zero);
            }

            #[test]
            fn permuted_rows_move_as_its_law_of_permutation_says() {
                assert_holds($crate::Law::Permutation);
            }

            #[test]
            fn it_joins_a_chain_late_as_its_row_says() {
                assert_holds($crate::Law::Late);
            }

            #[test]
            fn under_an_estimated_step_size_it_is_what_its_row_says() {
                assert_holds($crate::Law::Estimate);
            }

            #[test]
            fn at_learning_rate_0_nothing_moves_and_an_estimate_stands_still() {
                assert_holds($crate::Law::Frozen);
            }

            #[test]
            fn float32_is_float64_rounded() {
                assert_holds($crate::Law::Float32);
            }

            #[test]
            fn the_chain_is_its_formula() {
                assert_holds($crate::Law::Formula);
            }

            #[test]
            fn none_in_its_place_is_the_identity() {
                assert_holds($crate::Law::None);
            }

            #[test]
            fn an_identity_anywhere_changes_no_bit() {
                assert_holds($crate::Law::Identity);
            }

            #[test]
            fn an_identity_in_one_group_changes_no_bit_of_either() {
                assert_holds($crate::Law::IdentityInOneGroup);
            }

            #[test]
            fn toggling_it_leaves_the_state_of_others_alone() {
                assert_holds($crate::Law::Toggling);
            }

            #[test]
            fn a_chain_of_boxes_is_the_tuple() {
                assert_holds($crate::Law::Boxes);
            }

            #[test]
            fn parameters_one_by_one_are_the_step_in_float32() {
                assert_holds($crate::Law::OneByOneInFloat32);
            }

            #[test]
            fn parameters_one_by_one_are_the_step_in_bfloat16() {
                assert_holds($crate::Law::OneByOneInBfloat16);
            }

            #[test]
            fn twice_in_a_chain_it_is_refused() {
                assert_holds($crate::Law::Once);
            }

            #[test]
            fn it_trains_to_its_target_on_four_small_problems() {
                assert_holds($crate::Law::Training);
            }
        })+
    };
}

/// A test for each chain, which compares a readable table of its first steps with a file in `snapshots/` next
/// to the test. A chain is given by the learning rate, the transforms before the writer, the writer, and
/// those after it. [`table`](crate::table) describes the table.
///
/// A difference fails the test, and so does a table without a file. Except on CI, the new table is then next
/// to the file as `.snap.new`. Read it; `cargo insta accept` or `INSTA_UPDATE=always cargo test` accepts it,
/// and the run after that removes `.snap.new`. A crate that uses the macro needs only this crate for it.
#[macro_export]
macro_rules! snapshots {
    ($($(#[$note:meta])* $test:ident: lr $lr:literal, ($($before:expr),*), $writer:expr $(, $behind:expr)?;)+) => {
        mod snapshots {
            #[allow(unused_imports)]
            use super::*;

            $($(#[$note])*
            #[test]
            fn $test() {
                let table =
                    $crate::table::of_chain($lr, |probe| Box::new(($($before,)* probe, $writer, $($behind)?)));
                let chain = concat!(stringify!($($before | )* $writer $(| $behind)?), ", lr ", $lr);
                $crate::snapshot!(stringify!($test), chain, table.unwrap());
            })+
        }
    };
}

/// Compares a table with the file of that name in `snapshots/` next to the test. The first line of the file
/// describes it.
#[macro_export]
macro_rules! snapshot {
    ($name:expr, $of:expr, $table:expr) => {{
        let mut settings = $crate::__private::insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.set_description($of);
        let table = $table;
        let _advice = $crate::__private::Advice;
        settings.bind(|| $crate::__private::insta::assert_snapshot!($name, table));
    }};
}

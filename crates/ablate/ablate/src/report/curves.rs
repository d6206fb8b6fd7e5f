//! Curves over a run: one small figure per arm, the base after it, all on the same scales.

use maud::{Markup, html};

use super::figure::{Scale, band, bottom_axis, horizontal_grid, least_width, line};
use super::number::brief;
use super::view::{Band, Curve, View, over_seeds};
use crate::results::Run;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 160.0;
const LEFT: f64 = 46.0;
/// Room for the numbers at the ends, of up to eight characters.
const RIGHT: f64 = WIDTH - 58.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = HEIGHT - 22.0;

/// Labels closer than this would overlap.
const LABEL_HEIGHT: f64 = 13.0;

/// A quantity of the curves.
pub(super) struct Quantity<'a> {
    pub(super) name: &'a str,
    pub(super) is_log: bool,
    pub(super) of: &'a dyn Fn(&Run) -> Curve,
}

/// Small figures of a quantity on a task, for the arms that have it; nothing where none has.
pub(super) fn panels(view: View<'_>, task: usize, quantity: &Quantity<'_>) -> Option<Markup> {
    let results = &view.results.tasks[task];
    let of_arm = |arm: usize| over_seeds(results, arm, quantity.of);
    let base = of_arm(0);
    let arms: Vec<(usize, Vec<Band>)> =
        view.compared().map(|arm| (arm, of_arm(arm))).filter(|(_, bands)| !bands.is_empty()).collect();
    let arms = if arms.is_empty() && view.arms().len() == 1 { vec![(0, of_arm(0))] } else { arms };
    if arms.iter().all(|(_, bands)| bands.is_empty()) {
        return None;
    }
    let values =
        || arms.iter().flat_map(|(_, bands)| bands).chain(&base).flat_map(|band| [band.low, band.high]);
    let y = if quantity.is_log {
        Scale::log(values(), (BOTTOM, TOP))
    } else {
        Scale::covering(values(), (BOTTOM, TOP))
    };
    let x = Scale::from_zero(results.steps as f64, (LEFT, RIGHT));
    Some(html! {
        div.panels {
            @for (arm, bands) in &arms { (panel(view, *arm, bands, &base, (&x, &y), quantity.name)) }
        }
    })
}

fn panel(
    view: View<'_>,
    arm: usize,
    bands: &[Band],
    base: &[Band],
    (x, y): (&Scale, &Scale),
    name: &str,
) -> Markup {
    let draw = |bands: &[Band]| {
        let area: Vec<(f64, f64, f64)> =
            bands.iter().map(|band| (x.at(band.step as f64), y.at(band.low), y.at(band.high))).collect();
        let mean = line(bands.iter().map(|band| (x.at(band.step as f64), y.at(band.mean))));
        html! { path.band d=(band(&area)) {} path.curve d=(mean) {} }
    };
    let title = &view.arms()[arm].title;
    let ends = bands.last().zip(if arm == 0 { None } else { base.last() });
    html! {
        figure {
            // As text of the page, so that the title of a combination has as many lines as it needs.
            figcaption { (title) }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) style=(least_width(WIDTH)) role="img" aria-label=(format!("{name} over steps: {title}")) {
                (horizontal_grid(y, 4, LEFT, RIGHT))
                (bottom_axis(x, 4, BOTTOM))
                g.base { (draw(base)) }
                g class=(view.colour(arm)) { (draw(bands)) }
                @if let Some((own, other)) = ends {
                    @let (own_y, other_y) = apart(y.at(own.mean), y.at(other.mean));
                    text.end.own x=(RIGHT + 5.0) y=(format!("{own_y:.1}")) dy="0.32em" { (brief(own.mean)) }
                    text.end x=(RIGHT + 5.0) y=(format!("{other_y:.1}")) dy="0.32em" { (brief(other.mean)) }
                }
            }
        }
    }
}

/// Where two labels go so that neither covers the other.
fn apart(first: f64, second: f64) -> (f64, f64) {
    let overlap = LABEL_HEIGHT - (first - second).abs();
    if overlap <= 0.0 {
        return (first, second);
    }
    let shift = if first <= second { -overlap / 2.0 } else { overlap / 2.0 };
    (first + shift, second - shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_would_overlap_move_apart() {
        assert_eq!(apart(0.0, 50.0), (0.0, 50.0));
        let (first, second) = apart(100.0, 102.0);
        assert!(first < second && (second - first - LABEL_HEIGHT).abs() < 1e-9);
        let (first, second) = apart(102.0, 100.0);
        assert!(first > second && (first - second - LABEL_HEIGHT).abs() < 1e-9);
    }
}

//! Performance profiles over the tasks.

use maud::{Markup, html};

use super::figure::{Scale, bottom_axis_of, horizontal_grid, least_width, line};
use super::number::short;
use super::view::View;
use crate::findings::Profile;
use crate::results::Role;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = WIDTH - 170.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 40.0;

/// Ratio above which runs are not told apart.
const FARTHEST: f64 = 32.0;
const LABEL_HEIGHT: f64 = 14.0;

pub(super) fn profiles(view: View<'_>) -> Option<Markup> {
    let profiles = &view.findings.profiles;
    let slowest =
        profiles.iter().filter_map(|profile| profile.points.last()).map(|point| point.0).fold(2.0, f64::max);
    let farthest = slowest.min(FARTHEST);
    if profiles.is_empty() {
        return None;
    }
    let x = Scale::log([1.0, farthest].into_iter(), (LEFT, RIGHT));
    // Room for a line of every arm.
    let bottom = BOTTOM.max(TOP + LABEL_HEIGHT * profiles.len() as f64);
    let height = bottom + (HEIGHT - BOTTOM);
    let y = Scale::between(0.0, 1.0, (bottom, TOP));
    let labels = labels(profiles, farthest, &y);
    Some(html! {
        figure {
            svg viewBox=(format!("0 0 {WIDTH} {height}")) style=(least_width(WIDTH)) role="img" aria-label="Performance profiles" {
                (horizontal_grid(&y, 5, LEFT, RIGHT))
                (bottom_axis_of(&x, 6, bottom, |tick| format!("{}×", short(tick))))
                text.tick x=((LEFT + RIGHT) / 2.0) y=(height - 4.0) text-anchor="middle" { "steps to the target, as a multiple of the fastest arm’s" }
                @for (profile, label) in profiles.iter().zip(labels) {
                    g class=(view.colour(profile.arm)) {
                        path.curve.thin[view.arms()[profile.arm].role == Role::Changed] d=(staircase(profile, farthest, &x, &y)) {
                            title { (view.arms()[profile.arm].title) }
                        }
                        text.end.own x=(RIGHT + 8.0) y=(format!("{label:.1}")) dy="0.32em" { (view.arms()[profile.arm].title) }
                    }
                }
            }
        }
    })
}

fn share_at(profile: &Profile, farthest: f64) -> f64 {
    profile.points.iter().rfind(|(factor, _)| *factor <= farthest).map_or(0.0, |(_, share)| *share)
}

fn staircase(profile: &Profile, farthest: f64, x: &Scale, y: &Scale) -> String {
    let mut points = Vec::new();
    let mut height = 0.0;
    for (factor, share) in profile.points.iter().filter(|(factor, _)| *factor <= farthest) {
        points.push((x.at(*factor), y.at(height)));
        height = *share;
        points.push((x.at(*factor), y.at(height)));
    }
    points.push((x.at(farthest), y.at(height)));
    line(points)
}

/// Heights of the labels: in the order of the curves' ends, and as near to them as possible without covering each
/// other.
fn labels(profiles: &[Profile], farthest: f64, y: &Scale) -> Vec<f64> {
    let mut order: Vec<usize> = (0..profiles.len()).collect();
    order.sort_by(|a, b| share_at(&profiles[*b], farthest).total_cmp(&share_at(&profiles[*a], farthest)));
    let mut places = vec![0.0; profiles.len()];
    let mut above = f64::NEG_INFINITY;
    for &index in &order {
        above = y.at(share_at(&profiles[index], farthest)).max(above + LABEL_HEIGHT);
        places[index] = above;
    }
    // What ran out below is pushed up again.
    let mut below = y.at(0.0) + LABEL_HEIGHT;
    for &index in order.iter().rev() {
        places[index] = places[index].min(below - LABEL_HEIGHT);
        below = places[index];
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_many_arms_have_a_line_each() {
        let profile = |arm: usize| Profile { arm, points: vec![(1.0, if arm < 5 { 0.9 } else { 0.0 })] };
        let profiles: Vec<Profile> = (0..40).map(profile).collect();
        let bottom = TOP + LABEL_HEIGHT * 40.0;
        let mut places = labels(&profiles, 2.0, &Scale::between(0.0, 1.0, (bottom, TOP)));
        places.sort_by(f64::total_cmp);
        assert!(places[0] >= TOP && places[39] <= bottom, "{places:?}");
        assert!(places.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_HEIGHT - 1e-9), "{places:?}");
    }
}

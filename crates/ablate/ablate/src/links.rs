//! Work of the links of a chain in a step, over the tensors of a group.

use gradient_transform::{LinkRecord, Record};

use crate::record::LinkPoint;

/// Sums over the tensors that a link applies to.
struct Sums {
    link: String,
    before: f64,
    after: f64,
    products: f64,
    changed: f64,
    elements: f64,
}

impl Sums {
    fn new(link: &str) -> Self {
        let link = link.to_owned();
        Self { link, before: 0.0, after: 0.0, products: 0.0, changed: 0.0, elements: 0.0 }
    }

    fn add(&mut self, link: &LinkRecord, elements: usize) {
        self.before += link.before * link.before;
        self.after += link.after * link.after;
        self.products += link.cosine.unwrap_or(0.0) * link.before * link.after;
        self.changed += link.changed * elements as f64;
        self.elements += elements as f64;
    }

    fn point(self) -> LinkPoint {
        let finite = |value: f64| value.is_finite().then_some(value);
        let (before, after) = (self.before.sqrt(), self.after.sqrt());
        LinkPoint {
            link: self.link,
            before: finite(before),
            after: finite(after),
            cosine: finite(self.products / (before * after)).map(|cosine| cosine.clamp(-1.0, 1.0)),
            changed: self.changed / self.elements.max(1.0),
        }
    }
}

/// The links of a group, in the order of its chain.
pub(crate) fn of_group(record: &Record, group: usize) -> Vec<LinkPoint> {
    let mut links: Vec<Sums> = Vec::new();
    for tensor in record.tensors_of(group) {
        // A link that does not apply to an earlier tensor has its place after the one before it here.
        let mut place = 0;
        for link in &tensor.links {
            let found = links.iter().position(|sums| sums.link == link.link).unwrap_or_else(|| {
                links.insert(place, Sums::new(&link.link));
                place
            });
            links[found].add(link, tensor.elements);
            place = found + 1;
        }
    }
    links.into_iter().map(Sums::point).collect()
}

#[cfg(test)]
mod tests {
    use elementary::{ClipByNorm, Sign};
    use gradient_transform::{Descent, Optimizer, Parameter, Recorder, TensorInfo, map, only_for};

    use super::*;

    #[test]
    fn norms_cosines_and_shares_are_those_over_all_tensors_that_a_link_applies_to() {
        let chain = (
            only_for(|tensor: &TensorInfo| tensor.len() == 3, map!("positive", |u| u.max(0.0))),
            Sign,
            ClipByNorm { limit: 0.5, ..ClipByNorm::default() },
            Descent::default(),
        );
        let mut optimizer = Optimizer::new(chain, [("a", [2]), ("b", [3])]).unwrap();
        optimizer.set_recorder(Some(Recorder::every(1).unwrap()));
        let (mut a, mut b) = ([1.0_f32; 2], [1.0_f32; 3]);
        let gradients = [vec![3.0, 4.0], vec![1.0, -2.0, 2.0]];
        optimizer
            .step(&mut [
                Parameter::slice(&mut a, Some(&gradients[0])),
                Parameter::slice(&mut b, Some(&gradients[1])),
            ])
            .unwrap();
        let links = of_group(optimizer.recorder().unwrap().latest().unwrap(), 0);
        let names: Vec<&str> = links.iter().map(|link| link.link.as_str()).collect();
        assert_eq!(names, ["positive", "sign", "clip-by-norm", "descent"]);
        let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-6;
        // Of the second tensor alone.
        let positive = &links[0];
        assert!(close(positive.before, 3.0) && close(positive.after, 5.0_f64.sqrt()));
        assert!(close(positive.cosine, 5.0_f64.sqrt() / 3.0) && close(Some(positive.changed), 1.0 / 3.0));
        // Of both: (3, 4) and (1, 0, 2) become (1, 1) and (1, 0, 1).
        let sign = &links[1];
        assert!(close(sign.before, 30.0_f64.sqrt()) && close(sign.after, 2.0));
        assert!(close(sign.cosine, 10.0 / (2.0 * 30.0_f64.sqrt())) && close(Some(sign.changed), 0.6));
        assert!(close(links[2].after, 0.5_f64.sqrt()) && close(links[2].cosine, 1.0));
    }
}

//! The axes of a factored moment.

/// The two axes over which squared gradients are averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Axes {
    /// The largest axis (the last of equals).
    pub(crate) largest: usize,
    /// The second largest.
    pub(crate) second: usize,
}

impl Axes {
    /// The two largest axes, if there are two, the largest has at least `min_size` elements, and the tensor
    /// is not empty: an empty tensor can have any number of rows.
    #[inline]
    pub(crate) fn of(shape: &[usize], min_size: usize) -> Option<Self> {
        // Called for every tile, so no list is sorted.
        if shape.len() < 2 || shape.contains(&0) || shape.iter().all(|&n| n < min_size) {
            return None;
        }
        let (mut largest, mut second) = if shape[1] >= shape[0] { (1, 0) } else { (0, 1) };
        for axis in 2..shape.len() {
            if shape[axis] >= shape[largest] {
                (largest, second) = (axis, largest);
            } else if shape[axis] >= shape[second] {
                second = axis;
            }
        }
        Some(Self { largest, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_largest_axes_are_found_and_ties_go_to_the_later() {
        let axes = |shape: &[usize]| Axes::of(shape, 32).map(|a| (a.largest, a.second));
        assert_eq!(axes(&[64, 32]), Some((0, 1)));
        assert_eq!(axes(&[32, 64]), Some((1, 0)));
        assert_eq!(axes(&[64, 64]), Some((1, 0)));
        assert_eq!(axes(&[40, 6, 3, 3]), Some((0, 1)));
        assert_eq!(axes(&[33, 2, 34]), Some((2, 0)));
        assert_eq!(axes(&[31, 31]), None);
        assert_eq!(axes(&[4096]), None);
        assert_eq!((axes(&[0, 1 << 40]), axes(&[1 << 40, 2, 0])), (None, None));
    }
}

//! Numbers of a formula that are the same for every element.

use gradient_transform::device::SweepFormula;
use gradient_transform::number::{Node, Symbol, evaluate};

/// The formula with a constant in place of every number that is calculated from constants alone. WGSL has such expressions evaluated when
/// it is compiled, and refuses those that overflow or are not numbers.
pub(crate) fn folded(formula: &SweepFormula) -> SweepFormula {
    let mut folded = formula.clone();
    for i in 0..folded.nodes.len() {
        let node = folded.nodes[i];
        let is_truth =
            matches!(node, Node::Less(..) | Node::Equal(..) | Node::And(..) | Node::Or(..) | Node::Not(_));
        let is_constant = |part: Symbol| matches!(folded.nodes[part.index()], Node::Constant(_));
        let mut parts = node.parts().into_iter().flatten().peekable();
        if !is_truth && parts.peek().is_some() && parts.all(is_constant) {
            let value: f32 = evaluate(&folded.nodes[..=i], |_| 0.0)[i];
            folded.nodes[i] = Node::Constant(f64::from(value));
        }
    }
    folded
}

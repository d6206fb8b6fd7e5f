use serde::{Deserialize, Serialize};

/// A line of the Python package. Options that are not set follow its documented defaults.
///
/// ```
/// use prodigy_plus::{Line, Options};
///
/// let second: Options = serde_json::from_str(r#"{"line": "2.0.1"}"#).unwrap();
/// assert_eq!(second.line, Line::V2);
/// assert!(second.implied().d_limiter && !Options::default().implied().d_limiter);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// 1.9.2.
    #[default]
    #[serde(rename = "1.9.2")]
    V1,
    /// 2.0.1: a limit to the growth of d, a quotient instead of an arctangent, soft clipping, OrthoGrad on
    /// the update, another SPEED.
    #[serde(rename = "2.0.1")]
    V2,
}

impl Line {
    pub(crate) fn pick<V>(self, first: V, second: V) -> V {
        match self {
            Self::V1 => first,
            Self::V2 => second,
        }
    }
}

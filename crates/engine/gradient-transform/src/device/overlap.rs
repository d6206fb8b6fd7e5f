//! Arrays that share memory, of which one is written.

use crate::device::Executor;
use crate::error::{Error, Result};
use crate::memory::element::Real;

/// Refuses arrays that are written and share memory with another. Each has the name of its parameter, and whether it is written.
pub(super) fn check_apart<'a, T: Real, E: Executor<T>>(
    arrays: impl Iterator<Item = (&'a str, &'a E::Array, bool)>,
) -> Result<()>
where
    E::Array: 'a,
{
    let places = arrays.enumerate().filter_map(|(i, (name, array, written))| {
        let (buffer, bytes) = E::memory(array)?;
        (!bytes.is_empty()).then_some((buffer, bytes.start, bytes.end, i, name, written))
    });
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    // The array that reaches furthest so far, of all and of those that are written.
    let (mut furthest, mut furthest_written) = (None, None);
    for (buffer, start, end, i, name, written) in places {
        let reached = if written { furthest } else { furthest_written };
        if let Some((of, until, other, other_name)) = reached
            && of == buffer
            && until > start
        {
            let [(_, first), (_, second)] =
                if other < i { [(other, other_name), (i, name)] } else { [(i, name), (other, other_name)] };
            return Err(Error::Overlap { first: String::from(first), second: String::from(second) });
        }
        let place = Some((buffer, end, i, name));
        furthest = furthest.max(place);
        if written {
            furthest_written = furthest_written.max(place);
        }
    }
    Ok(())
}

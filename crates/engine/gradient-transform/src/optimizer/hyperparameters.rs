//! Differences between the hyperparameters of two chains, by their `Debug` forms.

/// The differences of `saved` and `here`, by transform and field: `Transform.field is 1, and 2 in the snapshot`.
pub(crate) fn differences(saved: &[String], here: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut left: Vec<&str> = saved.iter().map(String::as_str).collect();
    for here in here {
        match left.iter().position(|saved| head(saved) == head(here)) {
            Some(at) => compare(head(here), left.remove(at), here, &mut found),
            None => found.push(format!("{} is not in the snapshot", head(here))),
        }
    }
    found.extend(left.into_iter().map(|saved| format!("{} is in the snapshot only", head(saved))));
    found
}

/// The name in a text of the form `Name { field: value }` or `Name`.
fn head(text: &str) -> &str {
    text.split_once(" {").map_or(text, |(head, _)| head)
}

fn compare(path: &str, saved: &str, here: &str, found: &mut Vec<String>) {
    if saved == here {
        return;
    }
    let difference = || format!("{path} is {here}, and {saved} in the snapshot");
    let (Some(saved_fields), Some(fields)) = (fields(saved), fields(here)) else {
        return found.push(difference());
    };
    if head(saved) != head(here) {
        return found.push(difference());
    }
    for (name, here) in &fields {
        let path = format!("{path}.{name}");
        match saved_fields.iter().find(|(saved, _)| saved == name) {
            Some((_, saved)) => compare(&path, saved, here, found),
            None => found.push(format!("{path} is {here}, and not in the snapshot")),
        }
    }
}

/// The fields of `Name { field: value, .. }`.
fn fields(text: &str) -> Option<Vec<(&str, &str)>> {
    let body = text.split_once(" { ")?.1.strip_suffix(" }")?;
    let (mut depth, mut from, mut parts) = (0_i32, 0, Vec::new());
    for (at, c) in body.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&body[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[from..]);
    parts.into_iter().map(|part| part.trim().split_once(": ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_named_by_its_path() {
        let chain = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let saved =
            chain(&["Adopt { moment: Dense { beta2: 0.9, division: Epsilon(1e-8) }, last: [1, 2] }", "Clip"]);
        let here =
            chain(&["Adopt { moment: Dense { beta2: 0.99, division: Atan2 }, last: [1, 2] }", "Cautious"]);
        assert_eq!(
            differences(&saved, &here),
            [
                "Adopt.moment.beta2 is 0.99, and 0.9 in the snapshot",
                "Adopt.moment.division is Atan2, and Epsilon(1e-8) in the snapshot",
                "Cautious is not in the snapshot",
                "Clip is in the snapshot only",
            ]
        );
        assert!(differences(&here, &here).is_empty());
    }
}

//! Options that take several values, as scripts and manifests give them.

use std::str::FromStr;

/// Values separated by commas. Blanks around them do not count, and empty ones are skipped: a list that is put together
/// from variables may begin or end with a comma, or have nothing in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct List<T>(Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

/// The values of an option that was given several times, each of them once.
pub(super) fn flat<T: Clone + PartialEq>(lists: &[List<T>]) -> Vec<T> {
    let mut flat = Vec::new();
    for value in lists.iter().flat_map(|list| &list.0) {
        if !flat.contains(value) {
            flat.push(value.clone());
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_empty_values_do_not_count() {
        let read = |text: &str| text.parse::<List<u8>>().map(|list| list.0);
        assert_eq!(read("1"), Ok(vec![1]));
        assert_eq!(read(",1, 2 ,,3,\n"), Ok(vec![1, 2, 3]));
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read(" , "), Ok(vec![]));
        assert!(read("1,x").is_err());
    }

    #[test]
    fn an_option_given_twice_has_each_value_once() {
        let lists = ["1,2", "", "2,3"].map(|text| text.parse::<List<u8>>().unwrap());
        assert_eq!(flat(&lists), [1, 2, 3]);
    }
}

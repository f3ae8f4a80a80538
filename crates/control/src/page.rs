//! Pages of lists: markers are opaque to callers and say after which key to go on, so that a
//! page is right whatever was added or removed in between.

use crate::error::ControlError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Items of a page at most, whatever was asked for.
const PAGE: usize = 50;
/// First byte of a marker.
const MARKER_VERSION: u8 = 1;

pub(crate) struct Page {
    after: Option<Vec<u8>>,
    size: usize,
}

impl Page {
    pub(crate) fn new(marker: Option<&str>, max_items: Option<i64>) -> Result<Self, ControlError> {
        let after = match marker {
            None | Some("") => None,
            Some(text) => {
                let bytes = URL_SAFE_NO_PAD.decode(text).ok();
                let key = bytes.and_then(|bytes| match bytes.split_first() {
                    Some((&MARKER_VERSION, key)) => Some(key.to_vec()),
                    _ => None,
                });
                Some(key.ok_or_else(|| {
                    ControlError::invalid("Invalid Marker: use the NextMarker of the page before.")
                })?)
            }
        };
        let size = max_items.map_or(PAGE, |max| usize::try_from(max).unwrap_or(1));
        Ok(Self { after, size: size.clamp(1, PAGE) })
    }

    /// Takes the items of this page from all of them, which come in the order of their keys.
    pub(crate) fn take<T>(
        self,
        items: impl Iterator<Item = (Vec<u8>, T)>,
    ) -> (Vec<T>, Option<String>) {
        let mut page = Vec::new();
        let mut last = None;
        for (key, item) in items {
            if self.after.as_ref().is_some_and(|after| key <= *after) {
                continue;
            }
            if page.len() == self.size {
                let marker = last.map(|key: Vec<u8>| {
                    let mut bytes = vec![MARKER_VERSION];
                    bytes.extend(key);
                    URL_SAFE_NO_PAD.encode(bytes)
                });
                return (page, marker);
            }
            page.push(item);
            last = Some(key);
        }
        (page, None)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn items(count: u8) -> impl Iterator<Item = (Vec<u8>, u8)> {
        (0..count).map(|i| (vec![i], i))
    }

    #[test]
    fn pages_join_to_the_whole_and_the_last_has_no_marker() {
        let mut all = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let (page, next) = Page::new(marker.as_deref(), Some(7)).unwrap().take(items(30));
            all.extend(page);
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(all, (0..30).collect::<Vec<u8>>());
    }

    #[test]
    fn page_that_ends_with_the_list_has_no_marker() {
        let (page, next) = Page::new(None, Some(10)).unwrap().take(items(10));
        assert_eq!((page.len(), next), (10, None));
        let (page, next) = Page::new(None, Some(10)).unwrap().take(items(11));
        assert_eq!(page.len(), 10);
        assert!(next.is_some());
    }

    #[test]
    fn no_more_than_fifty() {
        let (page, _) = Page::new(None, Some(10_000)).unwrap().take(items(60));
        assert_eq!(page.len(), PAGE);
        let (page, _) = Page::new(None, None).unwrap().take(items(60));
        assert_eq!(page.len(), PAGE);
    }

    #[test]
    fn marker_of_a_removed_item_goes_on_behind_it() {
        let (_, next) = Page::new(None, Some(3)).unwrap().take(items(9));
        let rest = items(9).filter(|(_, i)| *i != 2);
        let (page, _) = Page::new(next.as_deref(), None).unwrap().take(rest);
        assert_eq!(page, [3, 4, 5, 6, 7, 8]);
    }

    proptest::proptest! {
        #[test]
        fn foreign_markers_never_panic(marker in "\\PC{0,80}") {
            let _ = Page::new(Some(&marker), None).map(|page| page.take(items(5)));
        }
    }
}

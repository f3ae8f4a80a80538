/// Decodes `%XX`; `+` stays. Bytes that are not UTF-8 become replacement characters, which no
/// name contains, so that they fail validation with their text shown.
#[must_use]
pub fn percent_decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The pairs of a query string, decoded (`+` is a space), in their order. A parameter without
/// `=` has an empty value.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(&name.replace('+', " ")), percent_decode(&value.replace('+', " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        assert_eq!(percent_decode("arn%3Aaws%2fx+y%"), "arn:aws/x+y%");
        assert_eq!(percent_decode("%FF"), "\u{FFFD}");
        let pairs: Vec<_> = query_pairs("a=1&b&c=x+y%20z&&=").collect();
        let expected = [("a", "1"), ("b", ""), ("c", "x y z"), ("", "")];
        assert_eq!(pairs, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
}

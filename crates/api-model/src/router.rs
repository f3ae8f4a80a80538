use crate::exception::ApiError;
use crate::table::{Model, Operation};
use crate::uri::{percent_decode, query_pairs};
use std::collections::BTreeMap;

/// URI templates as a tree of segments.
#[derive(Debug, Default)]
pub(crate) struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    label: Option<Box<Node>>,
    /// A label that takes all the rest of the path (`{Name+}`).
    greedy: Option<Box<Node>>,
    ends: Vec<End>,
}

#[derive(Debug)]
struct End {
    method: String,
    operation: usize,
    labels: Vec<String>,
    fixed_query: Vec<(String, String)>,
}

/// The operation that a request names, and the labels of its path, decoded.
#[derive(Debug)]
pub struct Routed {
    /// The operation.
    pub operation: &'static Operation,
    /// Label name and value.
    pub labels: Vec<(&'static str, String)>,
}

impl Router {
    pub(crate) fn new(operations: &[Operation]) -> Self {
        let mut router = Self::default();
        for (index, operation) in operations.iter().enumerate() {
            router.insert(index, &operation.method, &operation.uri);
        }
        router
    }

    fn insert(&mut self, operation: usize, method: &str, uri: &str) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let mut node = &mut self.root;
        let mut labels = Vec::new();
        for segment in segments(path) {
            node = match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some(name) => {
                    let (name, next) = match name.strip_suffix('+') {
                        Some(name) => (name, &mut node.greedy),
                        None => (name, &mut node.label),
                    };
                    labels.push(name.to_owned());
                    next.get_or_insert_default()
                }
                None => node.literals.entry(segment.to_owned()).or_default(),
            };
        }
        let fixed_query = query_pairs(query).collect();
        node.ends.push(End { method: method.to_owned(), operation, labels, fixed_query });
    }
}

/// Segments of a path; slashes at its end do not count.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('/').trim_end_matches('/').split('/')
}

impl Node {
    /// All ends that the path reaches, the most literal first.
    fn reach<'n>(
        &'n self,
        rest: &[&str],
        values: &mut Vec<String>,
        found: &mut Vec<(&'n End, Vec<String>)>,
    ) {
        let Some((segment, tail)) = rest.split_first() else {
            found.extend(self.ends.iter().map(|end| (end, values.clone())));
            return;
        };
        if let Some(next) = self.literals.get(*segment) {
            next.reach(tail, values, found);
        }
        if let Some(next) = &self.label {
            values.push(percent_decode(segment));
            next.reach(tail, values, found);
            values.pop();
        }
        if let Some(next) = &self.greedy {
            for taken in (1..=rest.len()).rev() {
                values.push(percent_decode(&rest[..taken].join("/")));
                next.reach(&rest[taken..], values, found);
                values.pop();
            }
        }
    }
}

/// Longer paths than any template are refused before they are walked.
const SEGMENTS: usize = 64;

impl Model {
    /// Finds the operation of a request; the most literal template wins, and among equal ones
    /// the one with the most fixed query parts present.
    ///
    /// # Errors
    /// `UnknownOperationException` (404) when no template fits the path, and
    /// `MethodNotAllowedException` (405) when one does, but with another method.
    pub fn route(&'static self, method: &str, path: &str, query: &str) -> Result<Routed, ApiError> {
        let parts: Vec<&str> = segments(path).take(SEGMENTS + 1).collect();
        let mut found = Vec::new();
        if parts.len() <= SEGMENTS && path.starts_with('/') {
            self.router.root.reach(&parts, &mut Vec::new(), &mut found);
        }
        if found.is_empty() {
            return Err(ApiError::unknown_operation(method, path));
        }
        let query: Vec<(String, String)> =
            if query.is_empty() { Vec::new() } else { query_pairs(query).collect() };
        let mut best: Option<(&End, &Vec<String>)> = None;
        for (end, values) in &found {
            let fits =
                end.method == method && end.fixed_query.iter().all(|part| query.contains(part));
            let better =
                best.is_none_or(|(other, _)| end.fixed_query.len() > other.fixed_query.len());
            if fits && better {
                best = Some((end, values));
            }
        }
        let Some((end, values)) = best else {
            let mut methods: Vec<&str> = found.iter().map(|(end, _)| end.method.as_str()).collect();
            methods.sort_unstable();
            methods.dedup();
            return Err(ApiError::method_not_allowed(method, path, &methods));
        };
        let operation = &self.operations()[end.operation];
        let labels = end.labels.iter().map(String::as_str).zip(values.iter().cloned()).collect();
        Ok(Routed { operation, labels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route(method: &str, path: &str, query: &str) -> Result<Routed, ApiError> {
        Model::get().route(method, path, query)
    }

    #[test]
    fn every_operation_is_reached_by_its_own_template() {
        for operation in Model::get().operations() {
            let (path, query) = operation.uri.split_once('?').unwrap_or((&operation.uri, ""));
            let path = path.replace(['{', '}'], "");
            for path in [path.clone(), format!("{path}/")] {
                let routed = route(&operation.method, &path, query).expect(&path);
                assert_eq!(routed.operation.name, operation.name, "{path}");
                for (label, value) in &routed.labels {
                    assert_eq!(label, value, "{path}");
                }
            }
        }
    }

    #[test]
    fn literals_win_over_labels_and_fixed_queries_over_none() {
        let name = |method, path, query| route(method, path, query).map(|r| &*r.operation.name);
        let list = "/2019-09-25/functions/f/event-invoke-config/list";
        assert_eq!(name("GET", list, "").ok(), Some("ListFunctionEventInvokeConfigs"));
        let layers = "/2018-10-31/layers";
        assert_eq!(name("GET", layers, "").ok(), Some("ListLayers"));
        let by_arn = "find=LayerVersion&Arn=a";
        assert_eq!(name("GET", layers, by_arn).ok(), Some("GetLayerVersionByArn"));
        assert_eq!(name("GET", layers, "find=Other").ok(), Some("ListLayers"));
        let provisioned = "/2019-09-30/functions/f/provisioned-concurrency";
        let all = "ListProvisionedConcurrencyConfigs";
        assert_eq!(name("GET", provisioned, "List=ALL").ok(), Some(all));
        let one = "GetProvisionedConcurrencyConfig";
        assert_eq!(name("GET", provisioned, "Qualifier=1").ok(), Some(one));
        assert_eq!(name("GET", "/2015-03-31/functions/", "").ok(), Some("ListFunctions"));
        assert_eq!(name("POST", "/2015-03-31/functions/", "").ok(), Some("CreateFunction"));
    }

    #[test]
    fn labels_are_decoded() {
        let arn = "arn:aws:lambda:us-east-1:000000000000:function:f";
        for written in [arn.to_owned(), arn.replace(':', "%3A"), arn.replace(':', "%3a")] {
            let routed = route("GET", &format!("/2017-03-31/tags/{written}"), "").expect(&written);
            assert_eq!(routed.labels, [("Resource", arn.to_owned())]);
        }
        let slash = route("GET", "/2015-03-31/functions/a%2Fb", "").expect("one segment");
        assert_eq!(slash.labels[0].1, "a/b");
    }

    #[test]
    fn unknown_paths_and_methods() {
        let status = |method, path| route(method, path, "").map_err(|e| e.status).err();
        assert_eq!(status("GET", "/"), Some(404));
        assert_eq!(status("GET", "/2015-03-31"), Some(404));
        assert_eq!(status("GET", "/2015-03-31/functions/f/nothing"), Some(404));
        assert_eq!(status("PATCH", "/2015-03-31/functions/f"), Some(405));
        assert_eq!(status("GET", &"/a".repeat(10_000)), Some(404));
    }

    #[test]
    fn greedy_labels_take_slashes() {
        let mut router = Router::default();
        router.insert(0, "GET", "/a/{Key+}");
        router.insert(1, "GET", "/a/{Key+}/tail");
        let mut found = Vec::new();
        router.root.reach(&["a", "x", "y", "tail"], &mut Vec::new(), &mut found);
        let tail = found.iter().find(|(end, _)| end.operation == 1).expect("tail");
        assert_eq!(tail.1, ["x/y"]);
        assert!(found.iter().any(|(end, values)| end.operation == 0 && values[0] == "x/y/tail"));
    }

    proptest! {
        #[test]
        fn no_path_panics(method in "[A-Z]{0,8}", path in "\\PC{0,200}", query in "\\PC{0,80}") {
            let _ = route(&method, &path, &query);
            let _ = route(&method, &format!("/2015-03-31/functions/{path}"), &query);
        }
    }
}

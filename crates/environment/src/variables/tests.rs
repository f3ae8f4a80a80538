#![allow(clippy::unwrap_used)]
use super::*;
use crate::tests::fixture::version;

fn map(version: &FunctionVersion) -> BTreeMap<String, String> {
    map_of(version, InitializationType::OnDemand)
}

fn map_of(
    version: &FunctionVersion,
    initialization: InitializationType,
) -> BTreeMap<String, String> {
    let api = runtime_api(version, &[]);
    variables(version, initialization, "2026/01/02/[$LATEST]0", &api, &View::Sandbox)
        .into_iter()
        .collect()
}

#[test]
fn a_function_is_told_the_address_that_was_opened_in_the_place_of_the_one_it_knows() {
    let opened = ["127.64.0.0:9001", "127.64.0.1:4711"].map(|text| text.parse().unwrap());
    let mut version = version();
    assert_eq!(runtime_api(&version, &opened), "127.64.0.1:4711");
    version.runtime = RuntimeId::ProvidedAl2;
    assert_eq!(runtime_api(&version, &opened), "127.64.0.0:9001");
}

#[test]
fn without_walls_the_code_is_where_the_host_has_it() {
    let view = View::Host { task: "/data/trees/abc".to_owned() };
    let all = variables(&version(), InitializationType::OnDemand, "s", "127.64.0.0:9001", &view);
    let found: BTreeMap<_, _> = all.into_iter().collect();
    assert_eq!(found["LAMBDA_TASK_ROOT"], "/data/trees/abc");
    assert_eq!(found["LD_LIBRARY_PATH"], "/data/trees/abc:/data/trees/abc/lib");
    assert_eq!(found["PATH"], "/usr/local/bin:/usr/bin/:/bin");
    let names: Vec<_> = found.keys().collect();
    let inside = map(&version());
    assert_eq!(names, inside.keys().collect::<Vec<_>>(), "nothing more and nothing less");
}

#[test]
fn a_provisioned_environment_knows_it() {
    let found = map_of(&version(), InitializationType::ProvisionedConcurrency);
    assert_eq!(found["AWS_LAMBDA_INITIALIZATION_TYPE"], "provisioned-concurrency");
}

#[test]
fn al2023_has_exactly_the_recorded_names_and_values() {
    let mut version = version();
    version.memory_mib = 1024;
    version.handler = "function.handler".into();
    version.variables.insert("TEST_KEY".into(), "TEST_VAL".into());
    let mut found = map(&version);
    for secret in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        found.remove(secret).unwrap();
    }
    let expected = [
        ("AWS_DEFAULT_REGION", "us-east-1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/f"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/01/02/[$LATEST]0"),
        ("AWS_LAMBDA_RUNTIME_API", "169.254.100.1:9001"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR"),
        ("AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1:2000"),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("LAMBDA_TASK_ROOT", "/var/task"),
        ("LANG", "en_US.UTF-8"),
        (
            "LD_LIBRARY_PATH",
            "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
        ),
        ("PATH", "/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        ("TEST_KEY", "TEST_VAL"),
        ("TZ", ":UTC"),
        ("_AWS_XRAY_DAEMON_ADDRESS", "169.254.100.1"),
        ("_AWS_XRAY_DAEMON_PORT", "2000"),
        ("_HANDLER", "function.handler"),
    ];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn al2_differs_in_addresses_and_paths() {
    for runtime in [RuntimeId::ProvidedAl2, RuntimeId::Provided] {
        let mut version = version();
        version.runtime = runtime;
        let found = map(&version);
        assert_eq!(found["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:9001");
        assert_eq!(found["AWS_XRAY_DAEMON_ADDRESS"], "169.254.79.129:2000");
        assert_eq!(found["PATH"], "/usr/local/bin:/usr/bin/:/bin:/opt/bin");
        assert!(!found["LD_LIBRARY_PATH"].contains("/var/lang"));
    }
}

#[test]
fn a_function_overrides_what_it_may_and_nothing_else() {
    let mut version = version();
    for (name, value) in [
        ("PATH", "/x"),
        ("LANG", "C"),
        ("TZ", "Asia/Shanghai"),
        ("AWS_XRAY_DAEMON_ADDRESS", "a:1"),
        ("AWS_LAMBDA_RUNTIME_API", "evil:1"),
        ("AWS_REGION", "mars"),
        ("_HANDLER", "other"),
        ("LAMBDA_TASK_ROOT", "/tmp"),
    ] {
        version.variables.insert(name.into(), value.into());
    }
    let found = map(&version);
    assert_eq!(found["PATH"], "/x");
    assert_eq!(found["LANG"], "C");
    assert_eq!(found["TZ"], "Asia/Shanghai");
    assert_eq!(found["AWS_XRAY_DAEMON_ADDRESS"], "a:1");
    assert_eq!(found["AWS_LAMBDA_RUNTIME_API"], "169.254.100.1:9001");
    assert_eq!(found["AWS_REGION"], "us-east-1");
    assert_eq!(found["_HANDLER"], "h");
    assert_eq!(found["LAMBDA_TASK_ROOT"], "/var/task");
}

#[test]
fn json_logging_is_told_to_the_runtime() {
    let mut version = version();
    assert!(!map(&version).contains_key("AWS_LAMBDA_LOG_FORMAT"));
    version.logging.format = LogFormat::Json;
    version.logging.application_level = Some("DEBUG".into());
    let found = map(&version);
    assert_eq!(found["AWS_LAMBDA_LOG_FORMAT"], "JSON");
    assert_eq!(found["AWS_LAMBDA_LOG_LEVEL"], "DEBUG");
}

#[test]
fn keys_have_the_shape_that_sdks_check() {
    assert_eq!(ACCESS_KEY_ID.len(), 20);
    assert_eq!(SECRET_ACCESS_KEY.len(), 40);
    assert!(ACCESS_KEY_ID.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
}

//! Lab 3 and the layers of the built-in runtimes: the same zips on this machine, in a Debian 12 with
//! PHP, in one without it, and in a root file system in which there is nothing at all.

use super::harness::{Api, example, lambfold, root, server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) fn build(runtime: &str, more: &[&str], to: &Path) -> PathBuf {
    let file = to.join(format!("{runtime}.zip"));
    let mut command = Command::new(lambfold());
    command.args(["layer", "build", runtime, "-o"]).arg(&file).args(more);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file
}

pub(super) fn publish(api: &Api, name: &str, zip: &Path) -> String {
    let zip = STANDARD.encode(std::fs::read(zip).unwrap());
    let path = format!("/2018-10-31/layers/{name}/versions");
    let reply = api.call("POST", &path, &json!({"Content": {"ZipFile": zip}}));
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["LayerVersionArn"].as_str().unwrap().to_owned()
}

/// A function with one file and the layer; `more` overrides members of the request.
pub(super) fn function(api: &Api, name: &str, layer: &str, file: (&str, &str), more: Value) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(file.0), file.1).unwrap();
    let handler = file.0.replace("function.sh", "function.handler");
    let mut request = json!({"Handler": handler, "Layers": [layer], "Timeout": 20});
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    api.create_from(name, folder.path(), request);
}

/// An event as API Gateway sends it.
fn get(path: &str) -> Value {
    json!({
        "resource": "/{proxy+}", "path": path, "httpMethod": "GET",
        "headers": {"Host": "id.execute-api.us-east-1.amazonaws.com"},
        "multiValueHeaders": {"Host": ["id.execute-api.us-east-1.amazonaws.com"]},
        "queryStringParameters": {"name": "Ada"},
        "multiValueQueryStringParameters": {"name": ["Ada"]},
        "pathParameters": {"proxy": path}, "stageVariables": null,
        "requestContext": {"stage": "prod", "path": format!("/prod{path}"), "httpMethod": "GET",
            "identity": {"sourceIp": "203.0.113.9"}},
        "body": null, "isBase64Encoded": false})
}

fn page(api: &Api, name: &str, event: &Value) -> (u64, String) {
    let reply = api.invoke(name, event);
    assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
    let answer = reply.json();
    (answer["statusCode"].as_u64().unwrap(), answer["body"].as_str().unwrap().to_owned())
}

fn error(api: &Api, name: &str, event: &Value) -> Value {
    let reply = api.invoke(name, event);
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    reply.json()
}

#[test]
fn lab_3_a_page_from_a_layer() {
    let work = tempfile::tempdir().unwrap();
    let zip = build("php", &[], work.path());
    let again = tempfile::tempdir().unwrap();
    let same = std::fs::read(build("php", &[], again.path())).unwrap();
    assert!(std::fs::read(&zip).unwrap() == same, "the same input gives other bytes");

    let server = server();
    let api = Api::new(server.url());
    let layer = publish(&api, "php", &zip);
    let code = STANDARD.encode(std::fs::read(example("php-hello", work.path())).unwrap());
    let created = api.call(
        "POST",
        "/2015-03-31/functions",
        &json!({
            "FunctionName": "lab3", "Runtime": "provided.al2023", "Handler": "index.php",
            "Role": "arn:aws:iam::000000000000:role/any", "Layers": [layer],
            "Code": {"ZipFile": code}}),
    );
    assert_eq!(created.status, 201, "{}", created.text());
    for path in ["/hello/world", "/", "/a%20b"] {
        assert_eq!(page(&api, "lab3", &get(path)), (200, format!("{path}?name=Ada")));
    }
    let reply = api.invoke_tail("lab3", &get("/again"));
    assert!(!reply.log().contains("Init Duration"), "it did not live on: {}", reply.log());
    ends(&api, &layer);
}

const ENDS: &str = r#"<?php
switch ($_SERVER['DOCUMENT_URI'] === '/index.php' ? strtok($_SERVER['REQUEST_URI'], '?') : '') {
    case '/fatal': undefined_function(); break;
    case '/kill': posix_kill(getmypid(), SIGKILL); break;
    case '/sleep': sleep(60); break;
    case '/memory': ini_set('memory_limit', '-1'); $all = []; while (true) { $all[] = str_repeat('x', 1 << 20); } break;
    case '/limit': $all = []; while (true) { $all[] = str_repeat('x', 1 << 20); } break;
    default: echo getenv('AWS_LAMBDA_FUNCTION_NAME'), ' ', posix_getuid() !== 0 ? 'not root' : 'root';
}
"#;

/// However a page ends, the next is fine.
fn ends(api: &Api, layer: &str) {
    let more = json!({"Timeout": 3, "MemorySize": 128});
    function(api, "ends", layer, ("index.php", ENDS), more);
    let fine = || assert_eq!(page(api, "ends", &get("/")), (200, "ends not root".to_owned()));
    fine();
    assert_eq!(page(api, "ends", &get("/fatal")), (500, String::new()));
    fine();
    assert_eq!(page(api, "ends", &get("/limit")), (500, String::new()));
    fine();
    assert_eq!(error(api, "ends", &get("/kill"))["errorType"], "Function.WorkerDied");
    fine();
    assert_eq!(error(api, "ends", &get("/sleep"))["errorType"], "Function.Timeout");
    fine();
    // Without a limit of PHP's own it is the system that ends PHP.
    let ended = error(api, "ends", &get("/memory"));
    let error_type = ended["errorType"].as_str().unwrap();
    assert!(["Runtime.OutOfMemory", "Function.WorkerDied"].contains(&error_type), "{ended}");
    fine();
}

const CALLABLE: &str = r#"<?php
return function ($event, $context) {
    date_default_timezone_set('Europe/Berlin');
    return [
        'event' => $event, 'zone' => date('e'), 'id' => $context->awsRequestId,
        'latin' => iconv('ISO-8859-1', 'UTF-8', "\xe9"), 'hash' => hash('sha256', 'x'),
        'extensions' => extension_loaded('ctype') && extension_loaded('Zend OPcache'),
        'maps' => array_values(array_filter(array_unique(array_map(
            fn ($line) => trim(substr($line, 73)), file('/proc/self/maps'))),
            fn ($path) => str_starts_with($path, '/') && !str_starts_with($path, '/opt/')
                && str_contains($path, '.so'))),
    ];
};
"#;

fn layers_work(api: &Api, layers: &[String; 2], what: &str) {
    let [php, bash] = layers;
    function(api, "page", php, ("index.php", "<?php echo $_SERVER['REQUEST_URI'];"), json!({}));
    assert_eq!(page(api, "page", &get("/x")), (200, "/x?name=Ada".to_owned()), "{what}");
    function(api, "callable", php, ("index.php", CALLABLE), json!({}));
    let reply = api.invoke_tail("callable", &json!({"n": 1}));
    let answer = reply.json();
    let seen = [&answer["event"]["n"], &answer["zone"], &answer["latin"], &answer["extensions"]];
    let expected = [&json!(1), &json!("Europe/Berlin"), &json!("é"), &json!(true)];
    assert_eq!(seen, expected, "{what}: {answer} {}", reply.log());
    // Not one library of the system.
    assert_eq!(answer["maps"], json!([]), "{what}");

    let text = "handler() { jq -c '{a, bash: $v}' --arg v \"${BASH_VERSION%%.*}\"; }";
    function(api, "shell", bash, ("function.sh", text), json!({}));
    let reply = api.invoke_tail("shell", &json!({"a": [1, 2]}));
    let answer = reply.json();
    assert_eq!(answer["a"], json!([1, 2]), "{what}: {answer} {}", reply.log());

    // It reads files, and has certificates to check with: without them it ends with 77, before it
    // finds (35) that the Runtime API does not speak TLS.
    let text = "handler() {
        curl -sS -o /tmp/copy file:///var/task/function.sh && [[ $(</tmp/copy) == \"$(</var/task/function.sh)\" ]] || return
        local status=0; curl -sS https://127.0.0.1:9001/ >&2 || status=$?; echo $status
    }";
    function(api, "curl", bash, ("function.sh", text), json!({}));
    let reply = api.invoke_tail("curl", &json!({}));
    assert_eq!(reply.text(), "35\n", "{what}: {}", reply.log());
}

/// What a zip says about itself is what dpkg says about the files in it.
fn is_listed(zip: &Path, folder: &str, packages: &[&str], crates: &[&str]) {
    let unzip = |name: &str| {
        let path = format!("{folder}/{name}");
        let output = Command::new("unzip").arg("-p").arg(zip).arg(&path).output().unwrap();
        assert!(output.status.success(), "{path} is not in {}", zip.display());
        String::from_utf8(output.stdout).unwrap()
    };
    let contents = unzip("CONTENTS.txt");
    for package in packages {
        let mut query = Command::new("dpkg-query");
        let output = query.args(["-W", "-f", "${Version}", package]).output().unwrap().stdout;
        let line = format!("\n{package} {}\n", String::from_utf8(output).unwrap());
        assert!(contents.contains(&line), "{line} is not in {contents}");
        let copyright = std::fs::read(format!("/usr/share/doc/{package}/copyright")).unwrap();
        assert_eq!(unzip(&format!("licences/{package}.txt")), String::from_utf8_lossy(&copyright));
    }
    for name in crates {
        let (_, rest) =
            contents.split_once(&format!("\n{name} ")).unwrap_or_else(|| panic!("{name}"));
        let licence = rest.lines().nth(1).unwrap().trim();
        assert!(licence.contains("MIT") || licence.contains("Apache-2.0"), "{name}: {licence}");
    }
    assert!(unzip("licences/lambfold.txt").contains("Apache License"));
}

#[test]
fn layers_say_what_is_in_them() {
    let work = tempfile::tempdir().unwrap();
    let with = ["--with", "jq,curl"];
    let bash = build("bash", &with, work.path());
    is_listed(&bash, "lambfold-bash", &["bash", "jq", "curl", "libc6"], &["rust-std", "rustix"]);
    let again = tempfile::tempdir().unwrap();
    let same = build("bash", &["--with", "curl,jq"], again.path());
    assert!(std::fs::read(&bash).unwrap() == std::fs::read(same).unwrap(), "other bytes");
    let php = build("php", &[], work.path());
    is_listed(&php, "lambfold-php", &["php8.2-cgi", "php8.2-cli", "libc6"], &["serde_json"]);
}

#[test]
fn the_same_zips_run_with_and_without_php_around() {
    let work = tempfile::tempdir().unwrap();
    let zips = [build("php", &[], work.path()), build("bash", &["--with", "jq,curl"], work.path())];
    let rootfs = |name: &str| {
        let folder = root().join("target/rootfs").join(name);
        assert!(folder.join("etc").exists(), "{name} is missing: run tools/setup test");
        folder
    };
    let (debian, with_php) = (rootfs("debian-12"), rootfs("debian-12-php"));
    assert!(with_php.join("usr/bin/php-cgi").exists());
    assert!(!debian.join("usr/bin/php").exists() && !debian.join("usr/bin/jq").exists());
    // What it lacks is named, and what it has comes from it.
    let debian_text = debian.to_str().unwrap();
    let out = work.path().join("none.zip");
    let mut command = Command::new(lambfold());
    command.args(["layer", "build", "php", "--from", debian_text, "-o"]).arg(&out);
    let output = command.output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && talk.contains("php-cgi php-cli"), "{talk}");
    assert!(!out.exists());
    build("bash", &["--from", debian_text], tempfile::tempdir().unwrap().path());

    // PHP and its libraries from another root.
    let other = tempfile::tempdir().unwrap();
    let from = ["--from", with_php.to_str().unwrap()];
    let taken = build("php", &from, other.path());

    let nothing = tempfile::tempdir().unwrap();
    for (what, rootfs, php) in [
        ("host", None, &zips[0]),
        ("Debian with PHP", Some(&*with_php), &zips[0]),
        ("Debian", Some(&*debian), &zips[0]),
        ("nothing", Some(nothing.path()), &zips[0]),
        ("nothing, PHP from a root", Some(nothing.path()), &taken),
    ] {
        let mut options = ServerOptions::new(lambfold());
        if let Some(rootfs) = rootfs {
            options = options.arg("--rootfs").arg(rootfs.to_str().unwrap());
        }
        let server = TempServer::start(&options).unwrap();
        let api = Api::new(server.url());
        let layers = [publish(&api, "php", php), publish(&api, "bash", &zips[1])];
        layers_work(&api, &layers, what);
    }
}

//! The same requests to nginx with php-fpm and, as events, to the runtime: `$_SERVER` and all else
//! that a page sees are the same, and so is what comes back.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::harness::{Runtime, Setup, index, wait_until};

/// Keys of `$_SERVER` that may differ, or be on one side only.
const MAY_DIFFER: &[&str] = &[
    // Who the server is, and which port of the client's it sees.
    "SERVER_SOFTWARE",
    "REMOTE_PORT",
    // Whoever the client says that it is: nobody has checked that, so it is not said.
    "REMOTE_USER",
    // Now.
    "REQUEST_TIME",
    "REQUEST_TIME_FLOAT",
    // php-fpm sets both for the user that it has changed to.
    "USER",
    "HOME",
    // What the runtime tells beyond a web server.
    "LAMBDA_REQUEST_CONTEXT",
    "LAMBDA_INVOCATION_CONTEXT",
    // The environment of the two processes.
    "PHP_INI_SCAN_DIR",
    "PHP_FCGI_CHILDREN",
    "PHP_FCGI_MAX_REQUESTS",
    "PWD",
];

const PAGE: &str = r#"<?php
switch (strtok($_SERVER['REQUEST_URI'], '?')) {
    case '/missing': http_response_code(404); header('Content-Type: text/plain'); echo 'none'; exit;
    case '/moved': header('Location: https://example.org/a?b=c', true, 301); exit;
    case '/found': header('Location: /elsewhere'); exit;
    case '/nothing': http_response_code(204); exit;
    case '/unchanged': http_response_code(304); header('ETag: "x"'); exit;
    case '/teapot': header('HTTP/1.1 418 I am a teapot'); echo 'short and stout'; exit;
    case '/cookies': setcookie('a', 'ä b'); setcookie('c', 'd', ['path' => '/', 'httponly' => true, 'samesite' => 'Lax']); exit;
    case '/headers': header('X-A: 1'); header('X-A: 2', false); header('X-Empty:'); header('x-lower: Case');
        header_remove('X-Powered-By'); header('Cache-Control: max-age=5'); exit;
    case '/bytes': header('Content-Type: application/octet-stream'); for ($i = 0; $i < 256; $i++) { echo chr($i); } exit;
    case '/latin': header('Content-Type: text/html; charset=iso-8859-1'); echo "caf\xe9"; exit;
    case '/long': for ($i = 0; $i < 300; $i++) { echo str_repeat(chr(97 + $i % 26), 10000); } exit;
    case '/length': header('Content-Length: 5'); echo 'abcde'; exit;
    case '/gzip': ini_set('zlib.output_compression', '1'); echo str_repeat('compress me ', 500); exit;
    case '/fatal': undefined_function(); exit;
    case '/thrown': echo 'begun'; throw new Exception('thrown');
    case '/info': header('Content-Type: text/plain'); echo php_sapi_name() !== 'cli'; exit;
    case '/session': session_id('lambfold-against-nginx'); session_start(); $_SESSION['n'] = 1; echo session_id(); session_destroy(); exit;
}
$files = [];
foreach ($_FILES as $name => $file) {
    unset($file['tmp_name']);
    $files[$name] = $file + ['sum' => md5_file($_FILES[$name]['tmp_name'])];
}
header('Content-Type: application/json');
echo json_encode(['server' => $_SERVER, 'get' => $_GET, 'post' => $_POST, 'cookie' => $_COOKIE,
    'request' => $_REQUEST, 'files' => $files, 'input' => base64_encode(file_get_contents('php://input')),
    'headers' => getallheaders(), 'getenv' => [getenv('REQUEST_URI'), getenv('AWS_REGION')],
    'cwd' => getcwd(), 'ini' => [ini_get('output_buffering'), ini_get('display_errors')]],
    JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES);
"#;

/// nginx and php-fpm, with a folder of their own.
struct Reference {
    address: SocketAddr,
    nginx: Child,
    fpm: Child,
    folder: tempfile::TempDir,
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Both take their children with them when they are asked to end.
        for child in [&mut self.nginx, &mut self.fpm] {
            let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::TERM);
            let _ = child.wait();
        }
    }
}

fn program(names: &[&str], package: &str) -> PathBuf {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let paths = folders.iter().flat_map(|f| names.iter().map(move |n| Path::new(f).join(n)));
    let mut paths = paths.filter(|path| path.exists());
    paths.next().unwrap_or_else(|| panic!("{} is missing: apt-get install {package}", names[0]))
}

fn fpm_program() -> PathBuf {
    let mut php = Command::new("php");
    php.args(["-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;"]);
    let output = php.output().expect("php is there: apt-get install php-cli").stdout;
    let name = format!("php-fpm{}", String::from_utf8(output).unwrap());
    program(&[&name, "php-fpm"], "php-fpm")
}

impl Reference {
    fn start(root: &Path, environment: &[(&str, &str)]) -> Reference {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        fs::create_dir(folder.path().join("ini")).unwrap();
        fs::write(folder.path().join("ini/runtime.ini"), include_str!("../../src/ini.ini"))
            .unwrap();
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap();
        fs::write(
            folder.path().join("fpm.conf"),
            format!(
                "[global]\nerror_log = {at}/fpm.log\ndaemonize = no\n[www]\nuser = {user}\n\
                 listen = {at}/fpm.sock\npm = static\npm.max_children = 1\nclear_env = no\n"
            ),
        )
        .unwrap();
        let mut fpm = Command::new(fpm_program());
        // As root it would rather not.
        fpm.args(["-F", "-R", "-y", &format!("{at}/fpm.conf")]);
        fpm.env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(environment.iter().copied());
        fpm.env("PHP_INI_SCAN_DIR", format!(":{at}/ini"));
        fpm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let fpm = fpm.spawn().unwrap();

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let temps = ["client_body", "fastcgi", "proxy", "uwsgi", "scgi"];
        let temps: String = temps.iter().map(|n| format!("{n}_temp_path {at}/{n};\n")).collect();
        let includes = if Path::new("/etc/nginx/fastcgi.conf").exists() {
            "/etc/nginx/fastcgi.conf"
        } else {
            "fastcgi.conf"
        };
        fs::write(
            folder.path().join("nginx.conf"),
            format!(
                "daemon off; worker_processes 1; user {user}; error_log {at}/nginx.log; pid {at}/nginx.pid;\n\
                 events {{}}\n\
                 http {{ access_log off; {temps} client_max_body_size 10m;\n\
                 large_client_header_buffers 4 64k;\n\
                 # What stands before a server that only sees plain HTTP, and says so in these.\n\
                 map $http_x_forwarded_proto $seen_https {{ default ''; https on; }}\n\
                 map $http_x_forwarded_proto $seen_scheme {{ default http; https https; }}\n\
                 map $http_x_forwarded_port $seen_port {{ default $http_x_forwarded_port; '' 80; }}\n\
                 server {{ listen {address}; root {root};\n\
                 location / {{ try_files /there/is/no/such/file /index.php$is_args$args; }}\n\
                 location ~ ^/index\\.php(/|$) {{\n\
                   fastcgi_split_path_info ^(/index\\.php)(/.*)$;\n\
                   include {includes};\n\
                   fastcgi_param PATH_INFO $fastcgi_path_info if_not_empty;\n\
                   fastcgi_param SERVER_NAME $host;\n\
                   fastcgi_param HTTPS $seen_https if_not_empty;\n\
                   fastcgi_param REQUEST_SCHEME $seen_scheme;\n\
                   fastcgi_param SERVER_PORT $seen_port;\n\
                   fastcgi_pass unix:{at}/fpm.sock; }} }} }}\n",
                root = root.display(),
                user = user.trim(),
            ),
        )
        .unwrap();
        let mut nginx = Command::new(program(&["nginx"], "nginx-light"));
        nginx.args([
            "-p",
            &at,
            "-c",
            &format!("{at}/nginx.conf"),
            "-e",
            &format!("{at}/nginx.log"),
        ]);
        // An nginx that takes over from another gets its sockets like this; so no port is guessed.
        nginx.env("NGINX", "0;").stdin(Stdio::from(OwnedFd::from(listener)));
        let nginx = nginx.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let reference = Reference { address, nginx, fpm, folder };
        wait_until("php-fpm", || reference.folder.path().join("fpm.sock").exists());
        reference
    }

    fn send(&self, request: &Request) -> Response {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&request.body).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let log = || fs::read_to_string(self.folder.path().join("nginx.log")).unwrap_or_default();
        Response::parse(&bytes).unwrap_or_else(|| {
            panic!("{request:?}: {}\n{}", String::from_utf8_lossy(&bytes), log())
        })
    }
}

#[derive(Debug, Clone)]
struct Request {
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Whether format 1.0, which has no raw query, can bring it.
    is_canonical: bool,
}

impl Request {
    fn new(method: &'static str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
        let mut all = vec![("Host".to_owned(), "shop.example:8080".to_owned())];
        all.extend(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        if !body.is_empty() {
            all.push(("Content-Length".to_owned(), body.len().to_string()));
        }
        all.push(("Connection".to_owned(), "close".to_owned()));
        Request {
            method,
            target: target.to_owned(),
            headers: all,
            body: body.to_vec(),
            is_canonical: true,
        }
    }

    /// The query is only whole in format 2.0.
    fn raw(self) -> Request {
        Request { is_canonical: false, ..self }
    }

    fn parts(&self) -> (&str, Option<&str>) {
        match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.target, None),
        }
    }

    fn body_members(&self) -> (Value, bool) {
        match (self.body.is_empty(), str::from_utf8(&self.body)) {
            (true, _) => (Value::Null, false),
            // Both ways occur.
            (_, Ok(text)) if self.body.len().is_multiple_of(2) => (text.into(), false),
            _ => (STANDARD.encode(&self.body).into(), true),
        }
    }

    /// As a function URL sends it.
    fn v2(&self) -> Value {
        let (path, query) = self.parts();
        let (body, is_base64) = self.body_members();
        let mut headers = serde_json::Map::new();
        let mut cookies = Vec::new();
        for (name, value) in &self.headers {
            match name.to_lowercase().as_str() {
                "cookie" => cookies.extend(value.split("; ").map(str::to_owned)),
                name => drop(headers.insert(name.to_owned(), value.trim().into())),
            }
        }
        json!({
            "version": "2.0", "rawPath": path, "rawQueryString": query.unwrap_or(""),
            "headers": headers, "cookies": cookies, "body": body, "isBase64Encoded": is_base64,
            "requestContext": {"stage": "$default", "http": {
                "method": self.method, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"}}})
    }

    /// As API Gateway sends it.
    fn v1(&self) -> Value {
        let (path, query) = self.parts();
        let (body, is_base64) = self.body_members();
        let decode = |text: &str| {
            percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
        };
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            let (name, value) = pair.split_once('=').unwrap();
            values.entry(decode(name)).or_default().push(decode(value));
        }
        let headers: BTreeMap<&str, [&str; 1]> =
            self.headers.iter().map(|(name, value)| (name.as_str(), [value.trim()])).collect();
        json!({
            "httpMethod": self.method, "path": path, "multiValueHeaders": headers,
            "multiValueQueryStringParameters": values, "body": body, "isBase64Encoded": is_base64,
            "requestContext": {"stage": "prod", "path": format!("/prod{path}"),
                "protocol": "HTTP/1.1", "identity": {"sourceIp": "127.0.0.1"}}})
    }
}

#[derive(Debug, PartialEq)]
struct Response {
    status: u64,
    headers: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
}

impl Response {
    fn parse(bytes: &[u8]) -> Option<Response> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            headers.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
        }
        let mut body = bytes[end + 4..].to_vec();
        if headers.remove("transfer-encoding").is_some() {
            body = dechunked(&body)?;
        }
        // nginx's own.
        for name in ["server", "date", "connection"] {
            headers.remove(name);
        }
        Some(Response { status, headers, body })
    }

    fn of_answer(answer: &Value) -> Response {
        let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut add = |name: &str, value: &Value| {
            headers
                .entry(name.to_lowercase())
                .or_default()
                .push(value.as_str().unwrap().to_owned());
        };
        for (name, value) in answer["headers"].as_object().unwrap() {
            add(name, value);
        }
        for (name, values) in answer["multiValueHeaders"].as_object().into_iter().flatten() {
            values.as_array().unwrap().iter().for_each(|value| add(name, value));
        }
        for value in answer["cookies"].as_array().into_iter().flatten() {
            add("set-cookie", value);
        }
        let text = answer["body"].as_str().unwrap();
        let body = match answer["isBase64Encoded"].as_bool().unwrap() {
            true => STANDARD.decode(text).unwrap(),
            false => text.as_bytes().to_vec(),
        };
        Response { status: answer["statusCode"].as_u64().unwrap(), headers, body }
    }

    /// Values of one name as one, since format 2.0 has no other way.
    fn with_joined_headers(mut self) -> Response {
        for (name, values) in &mut self.headers {
            if name != "set-cookie" {
                *values = vec![values.join(", ")];
            }
        }
        self
    }

    /// What a page printed that shows what it saw, without what may differ.
    fn seen(&self) -> Option<Value> {
        let mut seen: Value = serde_json::from_slice(&self.body).ok()?;
        let server = seen.get_mut("server")?.as_object_mut()?;
        for key in MAY_DIFFER {
            server.remove(*key);
        }
        Some(seen)
    }
}

fn dechunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(&bytes[..end]).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

const ENVIRONMENT: &[(&str, &str)] = &[("AWS_REGION", "eu-north-1"), ("APP_ENV", "test")];

fn both() -> (Reference, Runtime) {
    let add = |setup: Setup, (name, value): &(&str, &str)| setup.variable(name, value);
    let runtime = ENVIRONMENT.iter().fold(index(PAGE), add).start();
    let root = runtime.folder();
    // What the platform gives, the other side has to get too.
    let (root_text, endpoint) = (root.display().to_string(), runtime.server.endpoint().to_owned());
    let mut environment = vec![
        ("LANG", "C.UTF-8"),
        ("AWS_LAMBDA_RUNTIME_API", &endpoint),
        ("LAMBDA_TASK_ROOT", &root_text),
        ("_HANDLER", "index.php"),
    ];
    environment.extend_from_slice(ENVIRONMENT);
    (Reference::start(&root, &environment), runtime)
}

fn compare(reference: &Reference, runtime: &mut Runtime, request: &Request) {
    let expected = reference.send(request).with_joined_headers();
    let formats =
        [("2.0", Some(request.v2())), ("1.0", request.is_canonical.then(|| request.v1()))];
    for (format, event) in formats {
        let Some(event) = event else { continue };
        let what = format!("{} {} in format {format}", request.method, request.target);
        let got = Response::of_answer(&runtime.invoke(&event)).with_joined_headers();
        assert_eq!(got.status, expected.status, "{what}");
        assert_eq!(got.headers, expected.headers, "{what}");
        match (got.seen(), expected.seen()) {
            (Some(got), Some(expected)) => {
                for (member, expected) in expected.as_object().unwrap() {
                    assert_eq!(&got[member], expected, "{member}: {what}");
                }
            }
            _ => assert!(
                got.body == expected.body,
                "{what}: {} bytes, {} with nginx",
                got.body.len(),
                expected.body.len()
            ),
        }
    }
}

#[test]
fn pages_see_the_same_request() {
    let (reference, mut runtime) = both();
    let form = &[("Content-Type", "application/x-www-form-urlencoded")];
    let get = |target: &str| Request::new("GET", target, &[], b"");
    let mut requests = vec![
        get("/"),
        get("/a/b/"),
        get("/index.php"),
        get("/index.php/"),
        get("/index.php/a/b%20c/%C3%BC"),
        get("/index.phpx"),
        get("/x/index.php/y"),
        get("/%C3%BC%20%2F?q=%C3%BC%20x"),
        get("/a?x=1&x=2&y[]=a&y[]=b&z[k]=v"),
        get("/a?b").raw(),
        get("/a?b+c=d%2Be&&=x&a.b=c").raw(),
        get("/a?redirect=http://x/?y=z&u=%00%ff").raw(),
        get("/index.php?a=b"),
        get("/other.php?a=b"),
    ];
    for headers in [
        &[("Cookie", "a=1; b=%20x; c=\"q\"; d")][..],
        &[("Cookie", "a[x]=1; a[y]=2")],
        &[("Authorization", "Basic dXNlcjpwYXNz")],
        &[("Authorization", "Bearer abc")],
        &[("Authorization", "Digest username=\"u\", realm=\"r\"")],
        &[
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Port", "443"),
            ("X-Forwarded-For", "1.2.3.4"),
        ],
        &[("X-Forwarded-Proto", "http"), ("X-Forwarded-Port", "8080")],
        &[("X_Under_Score", "dropped"), ("X-Ok", "kept")],
        &[
            ("User-Agent", "test/1"),
            ("Accept", "text/html, */*"),
            ("Accept-Language", "de,en;q=0.5"),
        ],
        &[("X-Empty", ""), ("X-Space", "  around  "), ("X-Utf8", "ü")],
        &[("Content-Type", "text/plain")],
        &[("X-Requested-With", "XMLHttpRequest"), ("Referer", "http://x/?a=b"), ("Origin", "null")],
        &[("If-None-Match", "\"x\""), ("Range", "bytes=0-5"), ("Cache-Control", "no-cache")],
    ] {
        requests.push(Request::new("GET", "/p?q=1", headers, b""));
    }
    let long = "x".repeat(20_000);
    requests.push(Request::new("GET", "/p", &[("X-Long", &long)], b""));
    for method in ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"] {
        requests.push(Request::new(method, "/form?q=1", form, b"a=1&b[]=2&b[]=%C3%BC&c=d+e%26"));
        requests.push(Request::new(
            method,
            "/json",
            &[("Content-Type", "application/json")],
            b"{\"a\":[1]}",
        ));
        requests.push(Request::new(
            method,
            "/odd",
            &[("Content-Type", "application/json")],
            b"{\"a\":1}",
        ));
        requests.push(Request::new(method, "/none", &[], b""));
    }
    requests.push(Request::new("POST", "/zero", &[("Content-Length", "0")], b""));
    requests.push(Request::new("POST", "/no-type", &[], b"plain bytes"));
    requests.push(Request::new("OPTIONS", "/o", &[("Access-Control-Request-Method", "PUT")], b""));
    requests.push(Request::new(
        "POST",
        "/bytes-in",
        &[("Content-Type", "image/png")],
        &[0, 255, 13, 10, 0],
    ));
    let large: Vec<u8> = (0..=255u8).cycle().take(700_001).collect();
    requests.push(Request::new("PUT", "/large", &[("Content-Type", "application/x")], &large));
    let mut upload = b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nvalue\r\n\
        --b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"n\xc3\xa4me.bin\"\r\n\
        Content-Type: application/x-test\r\n\r\n"
        .to_vec();
    upload.extend_from_slice(&large[..100_000]);
    upload.extend_from_slice(b"\r\n--b\r\nContent-Disposition: form-data; name=\"empty\"; filename=\"\"\r\n\r\n\r\n--b--\r\n");
    let multipart = &[("Content-Type", "multipart/form-data; boundary=b")];
    requests.push(Request::new("POST", "/upload", multipart, &upload));
    for request in &requests {
        compare(&reference, &mut runtime, request);
    }
}

#[test]
fn clients_see_the_same_answer() {
    let (reference, mut runtime) = both();
    for path in [
        "/missing",
        "/moved",
        "/found",
        "/nothing",
        "/unchanged",
        "/teapot",
        "/cookies",
        "/headers",
        "/bytes",
        "/latin",
        "/long",
        "/length",
        "/fatal",
        "/thrown",
        "/info",
        "/session",
    ] {
        compare(&reference, &mut runtime, &Request::new("GET", path, &[], b""));
        compare(&reference, &mut runtime, &Request::new("POST", path, &[], b"some body"));
    }
    compare(&reference, &mut runtime, &Request::new("HEAD", "/missing", &[], b""));
    let gzip = &[("Accept-Encoding", "gzip")];
    compare(&reference, &mut runtime, &Request::new("GET", "/gzip", gzip, b""));
    compare(&reference, &mut runtime, &Request::new("GET", "/gzip", &[], b""));
}

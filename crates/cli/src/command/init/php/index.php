<?php
// The handler is index.php: every path leads here, and what is printed is the page. error_log()
// writes to the log.

$name = $_GET['name'] ?? 'world';
error_log("a greeting for $name");
?>
<!doctype html>
<meta charset="utf-8">
<title>Hello</title>
<h1>Hello, <?= htmlspecialchars($name) ?>!</h1>
<form>
  <label>Your name: <input name="name" autofocus></label>
  <button>Greet</button>
</form>

<?php // What pages do, for the hunt of rules that nobody needs. Runs in an empty folder.
file_put_contents('a', 'x', LOCK_EX); copy('a', 'b'); rename('b', 'c'); unlink('c'); glob('*');
touch('a'); chmod('a', 0600); stat('a'); realpath('a'); tempnam('.', 'x'); scandir('.');
symlink('a', 'l'); readlink('l'); mkdir('d'); rmdir('d'); ftruncate(fopen('a', 'r+'), 0);
exec('true'); shell_exec('echo 1'); proc_close(proc_open('true', [], $pipes));
@fsockopen('127.0.0.1', 1, $errno, $error, 1); gethostbyname('localhost');
$pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
$read = [$pair[0]]; $write = []; $except = []; stream_select($read, $write, $except, 0);
usleep(10); random_bytes(8); sys_getloadavg(); hash_file('sha256', 'a'); memory_get_usage();
set_time_limit(5); getrusage(); disk_free_space('.'); date('c');

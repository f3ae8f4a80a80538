# Perl's own words for the system, for the hunt of rules that nobody needs. Runs in an empty folder.
use strict; use warnings; no warnings 'void';
use Socket; use POSIX; use IPC::SysV qw(IPC_PRIVATE IPC_RMID);
use Time::HiRes qw(setitimer getitimer ITIMER_REAL usleep clock_gettime);

pipe(my $out, my $in); my $child = fork; if (!$child) { print $in 'x'; exit 0 }
waitpid $child, 0; system 'true'; my $echo = `echo 1`;

socket(my $server, PF_INET, SOCK_STREAM, 0) or die; bind($server, sockaddr_in(0, INADDR_LOOPBACK));
listen($server, 5); my ($port) = sockaddr_in(getsockname $server);
socket(my $client, PF_INET, SOCK_STREAM, 0); connect($client, sockaddr_in($port, INADDR_LOOPBACK));
accept(my $peer, $server) or die; getpeername $client; send $client, 'x', 0; recv $peer, my $got, 1, 0;
setsockopt $peer, SOL_SOCKET, SO_KEEPALIVE, 1; getsockopt $peer, SOL_SOCKET, SO_ERROR; shutdown $client, 2;
socketpair(my $left, my $right, AF_UNIX, SOCK_STREAM, 0); select(my $none = '', undef, undef, 0.01);
gethostbyname 'localhost';

my $queue = msgget(IPC_PRIVATE, 0600) // die; msgsnd $queue, pack('l! a*', 1, 'x'), 0;
msgrcv $queue, my $message, 1, 0, 0; msgctl $queue, IPC_RMID, 0;
my $segment = shmget(IPC_PRIVATE, 100, 0600) // die; shmwrite $segment, 'x', 0, 1;
shmread $segment, my $read, 0, 1; shmctl $segment, IPC_RMID, 0;
my $semaphore = semget(IPC_PRIVATE, 1, 0600) // die; semop $semaphore, pack('s3', 0, 1, 0);
semctl $semaphore, 0, IPC_RMID, 0;

local $SIG{ALRM} = sub { }; alarm 1; alarm 0; setitimer(ITIMER_REAL, 1); getitimer(ITIMER_REAL);
setitimer(ITIMER_REAL, 0); usleep 1; my @times = times;
local $SIG{USR1} = sub { }; my $set = POSIX::SigSet->new(SIGUSR1); sigprocmask(SIG_BLOCK, $set);
kill 'USR1', $$; sigpending(POSIX::SigSet->new); sigsuspend(POSIX::SigSet->new);

open(my $file, '>', 'd') or die; flock $file, 2; truncate $file, 1; close $file; utime 1, 1, 'd';
truncate 'd', 1; symlink 'd', 'e'; link 'd', 'f'; chmod 0600, 'd'; rename 'd', 'g'; unlink 'g';
mkdir 'h'; rmdir 'h'; opendir(my $folder, '.'); readdir $folder; rewinddir $folder;
POSIX::mkfifo('i', 0600); POSIX::dup2(1, 9); umask 022;
getpgrp; setpgrp; getppid; getpriority 0, 0; setpriority 0, 0, 1; POSIX::setsid; POSIX::uname;
$0 = 'named'; $> = $>; $( = $(;

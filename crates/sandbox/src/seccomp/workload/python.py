# The standard library's words for the system, for the hunt of rules that nobody needs. Runs in an
# empty folder.
import array, asyncio, concurrent.futures, contextlib, fcntl, mmap, multiprocessing, os, resource
import select, shutil, signal, socket, sqlite3, ssl, subprocess, tempfile, threading, time
import urllib.request

refused = contextlib.suppress(OSError)  # by the file system, or to an ordinary user

f = os.open("a", os.O_RDWR | os.O_CREAT)
os.write(f, b"x" * 100); os.pread(f, 1, 0); os.pwrite(f, b"y", 0); os.lseek(f, 0, 0)
os.readv(f, [bytearray(2)]); os.writev(f, [b"a"])
os.preadv(f, [bytearray(1)], 0, os.RWF_NOWAIT); os.pwritev(f, [b"a"], 0, os.RWF_DSYNC)
os.posix_fallocate(f, 0, 200); os.posix_fadvise(f, 0, 0, os.POSIX_FADV_SEQUENTIAL)
os.fsync(f); os.fdatasync(f); os.sync(); os.ftruncate(f, 10); os.truncate("a", 10)
os.fchmod(f, 0o600); os.chmod("a", 0o600); os.fchown(f, -1, -1); os.chown("a", -1, -1)
os.lchown("a", -1, -1); os.fstat(f); os.fstatvfs(f); os.statvfs("."); os.utime("a"); os.utime(f)
fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_UN)
os.access("a", os.R_OK); os.access("a", os.R_OK, effective_ids=True)
d = os.open(".", os.O_RDONLY); os.fchdir(d); os.getcwd(); list(os.scandir("."))
os.symlink("a", "b"); os.readlink("b"); os.link("a", "c"); os.rename("c", "e"); os.unlink("b")
os.mkdir("g", dir_fd=d); os.rmdir("g", dir_fd=d); os.symlink("a", "b", dir_fd=d)
os.readlink("b", dir_fd=d); os.link("a", "c", src_dir_fd=d, dst_dir_fd=d); os.stat("a", dir_fd=d)
os.rename("e", "h", src_dir_fd=d, dst_dir_fd=d); os.unlink("b", dir_fd=d)
os.chmod("a", 0o600, dir_fd=d); os.chown("a", -1, -1, dir_fd=d)
os.mkfifo("i"); os.mkfifo("j", dir_fd=d); os.umask(0o22)
for file, more in (("a", {}), (f, {}), ("a", {"follow_symlinks": False})):
    with refused: os.setxattr(file, "user.x", b"1", **more)
    with refused: os.getxattr(file, "user.x", **more)
    with refused: os.listxattr(file, **more)
    with refused: os.removexattr(file, "user.x", **more)
g = os.open("k", os.O_RDWR | os.O_CREAT); os.sendfile(g, f, 0, 5); os.copy_file_range(f, g, 5)
r, w = os.pipe(); os.write(w, b"abc"); os.splice(r, g, 3); os.dup(r); os.dup2(r, 50)
os.dup2(r, 51, inheritable=False); os.closerange(60, 70); os.memfd_create("m"); os.eventfd(0)
os.getrandom(8)
db = sqlite3.connect("db"); db.execute("pragma journal_mode=wal"); db.execute("create table t(x)")
db.commit(); db.close(); ssl.create_default_context()
shutil.copytree(".", os.path.join(tempfile.mkdtemp(), "t"),
                ignore=lambda _, names: [name for name in names if name in "ij"])

a, b = socket.socketpair()
a.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [f]))])
b.recvmsg(10, 100); a.send(b"a"); select.select([b], [], [], 0)
poll = select.poll(); poll.register(b); poll.poll(0)
epoll = select.epoll(); epoll.register(b, select.EPOLLIN); epoll.poll(0)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 0))
udp.sendto(b"x", udp.getsockname()); udp.recvfrom(1)
socket.socket(socket.AF_INET6, socket.SOCK_STREAM); socket.if_nameindex()
with refused: urllib.request.urlopen("http://127.0.0.1:1/", timeout=1)

m = mmap.mmap(-1, 8192); m.madvise(mmap.MADV_DONTNEED); m.flush(); m.resize(16384); m.close()
resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.getrusage(0); resource.prlimit(0, resource.RLIMIT_CPU)
os.getpgid(0); os.getsid(0); os.getresuid(); os.getresgid(); os.getgroups(); os.uname()
os.setuid(os.getuid()); os.setgid(os.getgid()); os.setreuid(-1, -1); os.setregid(-1, -1)
os.setresuid(-1, -1, -1); os.setresgid(-1, -1, -1); os.setpgid(0, 0)
with refused: os.setgroups(os.getgroups())
os.sched_yield(); os.sched_getaffinity(0); os.sched_setaffinity(0, os.sched_getaffinity(0))
os.sched_getscheduler(0); os.sched_getparam(0); os.sched_rr_get_interval(0)
os.sched_get_priority_max(0); os.sched_get_priority_min(0)
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0)); os.sched_setparam(0, os.sched_param(0))
os.getpriority(0, 0); os.setpriority(0, 0, 0); os.times(); os.getloadavg(); time.process_time()

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
signal.pthread_kill(threading.get_ident(), signal.SIGUSR1); signal.sigpending()
signal.sigtimedwait([signal.SIGUSR1], 1); signal.alarm(0)
signal.setitimer(signal.ITIMER_REAL, 0); signal.getitimer(signal.ITIMER_REAL)
child = subprocess.Popen(["sleep", "10"]); pidfd = os.pidfd_open(child.pid)
signal.pidfd_send_signal(pidfd, signal.SIGKILL); os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
subprocess.run(["true"]); os.waitpid(os.posix_spawn("/bin/true", ["true"], os.environ), 0)
child = os.fork()
if child == 0: os.execv("/bin/true", ["true"])
os.waitpid(child, 0)


async def sleep():
    await (await asyncio.create_subprocess_exec("true")).wait()
    await asyncio.sleep(0.01)


asyncio.run(sleep())
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: time.sleep(0.001), range(8)))
with refused:  # semaphores need a /dev/shm
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=lambda: queue.put(1))
    process.start(); queue.get(timeout=5); process.join()

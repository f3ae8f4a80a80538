# What scripts do all day, for the hunt of rules that nobody needs. Runs in an empty folder.
set -euo pipefail
cd .

mkdir -p a/b && echo x > a/f && cp -a a/f a/g && ln a/f a/h && ln -s f a/l && readlink a/l
mv a/g a/b/g && chmod 600 a/f && touch -d 2020-01-01 a/f && chown "$(id -u)" a/f
ls -la a && stat a/f && find . -type f -print && df . && du -s . && realpath a/f && cmp a/f a/h
truncate -s 10 a/f && sync a/f && sync -f a/f && dd if=/dev/zero of=z bs=4k count=2 conv=fsync
tar czf t.tgz a && tar tzf t.tgz && gzip -k z && sort z && split -n 2 z && shred -u xaa
install -m 755 z i && rm -r a/b && mkfifo p && mknod n p && mktemp -d && flock z true

(echo y > p &) && read -r line < p && echo "$line"
trap 'echo trapped' USR1 && kill -USR1 $$
sleep 0.01 & wait $!
cat <<< here && echo a | tee c && cat c c > d && diff c c && xargs echo < d
set -m && (sleep 0.01 & wait)
bash -c 'kill -9 $$' || true
timeout 5 true && setsid true && env -i true && nice -n 1 true && nohup true

ulimit -n && umask && pwd -P && uname -a && date && id && nproc && hostname && time true
chrt -b 0 true && chrt -p $$ && ionice -c 3 true && ionice -p $$ && taskset -p $$ && setpriv --no-new-privs true
prlimit --nofile true && setarch --list && setarch -R true
getent hosts localhost && curl -s file:///etc/hostname && jq -n 1
curl -s --max-time 1 http://127.0.0.1:1/ || true

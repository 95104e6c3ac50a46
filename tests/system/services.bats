#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# Services as Debian packages them, doing their work: each is dumped with --stop and restored, with no other option, while
# a client stays connected. (redis: roundtrip.bats)
# shellcheck disable=SC2154 # pid, checkpoint … are set by common.bash

load common

setup() {
        start_test
        chmod 711 "$T"
        port=$((20000 + RANDOM % 10000))
}
teardown() {
        exec 5>&-
        end_test
}

# Away and back. round_trip [COMMAND]: run meanwhile.
round_trip() {
        start_daemon
        dump process "$pid" --stop
        wait_gone "$pid"
        "${@:-true}"
        restore process --path "$checkpoint"
        alive "$pid"
}

# connect: to the port, as descriptor 5.
connect() { wait_for "exec 5<>/dev/tcp/127.0.0.1/$port" 30 && exec 5<>"/dev/tcp/127.0.0.1/$port"; }

# ask LINE: sets $answer to the line that comes back.
ask() {
        printf '%s\n' "$1" >&5
        read -r -t 20 answer <&5
}

# A request on the open connection, and its answer: 200, and a body of one line, which goes to $answer.
get() { # get PATH
        local line length=0
        printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' "$1" >&5
        read -r -t 20 line <&5
        [[ $line = "HTTP/1.1 200"* ]]
        while read -r -t 20 line <&5 && [ "$line" != $'\r' ]; do
                [[ $line != [Cc]ontent-[Ll]ength:* ]] || length=${line//[!0-9]/}
        done
        [ "$length" -gt 0 ]
        read -r -t 20 -N "$length" answer <&5
}

@test "java: threads that count, and a server with a client" {
        command -v java || skip "java is not installed"
        cat >"$T/Count.java" <<'END'
import java.io.*;
import java.net.*;
import java.util.concurrent.atomic.AtomicLong;

public class Count {
        public static void main(String[] arguments) throws Exception {
                AtomicLong counter = new AtomicLong();
                byte[][] memory = new byte[64][];
                Thread thread = new Thread(() -> {
                        for (;;) {
                                memory[(int) (counter.incrementAndGet() % 64)] = new byte[100000];
                                Thread.yield();
                        }
                });
                thread.setDaemon(true);
                thread.start();
                try (ServerSocket server = new ServerSocket(Integer.parseInt(arguments[0]))) {
                        for (;;) {
                                Socket client = server.accept();
                                new Thread(() -> serve(client, counter)).start();
                        }
                }
        }

        static void serve(Socket client, AtomicLong counter) {
                try (client) {
                        BufferedReader in = new BufferedReader(new InputStreamReader(client.getInputStream()));
                        PrintStream out = new PrintStream(client.getOutputStream(), true);
                        for (String line; (line = in.readLine()) != null;)
                                out.println(line + " " + counter.get());
                } catch (IOException e) {
                        e.printStackTrace();
                }
        }
}
END
        target java -Xmx64m "$T/Count.java" "$port"
        connect
        ask before
        [[ $answer = "before "* ]]
        before=${answer#before }
        # shellcheck disable=SC2317 # round_trip calls it
        say_more() { printf 'dead\n' >&5; }
        round_trip say_more
        read -r -t 20 answer <&5
        [[ $answer = "dead "* ]]
        [ "${answer#dead }" -gt "$before" ]
        between=${answer#dead }
        sleep 0.1
        ask after
        [ "${answer#after }" -gt "$between" ]
}

@test "node: an HTTP server with a connection that is kept" {
        command -v node || skip "node is not installed"
        cat >"$T/server.js" <<'END'
let requests = 0, ticks = 0;
setInterval(() => { ticks++; }, 5);
const server = require("http").createServer((request, response) => {
        requests++;
        response.end(`${request.url} ${requests} ${ticks}\n`);
});
server.keepAliveTimeout = 0;
server.listen(Number(process.argv[2]), "127.0.0.1");
END
        target node "$T/server.js" "$port"
        connect
        get /before
        read -r _ n before <<<"$answer"
        round_trip
        get /after
        read -r path m after <<<"$answer"
        [ "$path" = /after ]
        [ "$m" = $((n + 1)) ]
        sleep 0.1
        get /again
        read -r _ _ again <<<"$answer"
        [ "$again" -gt "$after" ]
        [ "$after" -ge "$before" ]
}

@test "nginx: workers of another user, with a connection that is kept" {
        mkdir -m 755 "$T/nginx" "$T/nginx/html"
        echo "served" >"$T/nginx/html/file"
        chmod 755 "$T/nginx/html"
        cat >"$T/nginx.conf" <<END
daemon off;
user www-data;
worker_processes 2;
pid $T/nginx/pid;
error_log $T/nginx/error.log;
events { }
http {
        access_log $T/nginx/access.log;
        keepalive_timeout 600;
        client_body_temp_path $T/nginx/body;
        proxy_temp_path $T/nginx/proxy;
        fastcgi_temp_path $T/nginx/fastcgi;
        uwsgi_temp_path $T/nginx/uwsgi;
        scgi_temp_path $T/nginx/scgi;
        server {
                listen 127.0.0.1:$port;
                root $T/nginx/html;
        }
}
END
        target "$(command -v nginx || echo /usr/sbin/nginx)" -c "$T/nginx.conf" -e "$T/nginx/error.log"
        connect
        get /file
        [ "$answer" = $'served\n' ]
        user=$(ps -o user= -p "$(pgrep -P "$pid" | head -n 1)")
        round_trip
        get /file
        [ "$answer" = $'served\n' ]
        [ "$(ps -o user= -p "$(pgrep -P "$pid" | head -n 1)")" = "$user" ]
        echo "changed" >"$T/nginx/html/file"
        kill -HUP "$pid" # new workers, from the master
        wait_for "grep -q 'signal 1' $T/nginx/error.log || [ \$(wc -l <$T/nginx/access.log) -ge 2 ]"
        exec 5>&-
        connect
        get /file
        [ "$answer" = $'changed\n' ]
        [ "$(grep -c 'GET /file' "$T/nginx/access.log")" = 3 ]
}

# sql QUERY: by the session that stays open, as a coprocess.
sql() {
        echo "$1" >&"${COPROC[1]}"
        read -r -t 20 answer <&"${COPROC[0]}"
}

@test "postgres: a cluster in the middle of a transaction of a client" {
        binaries=$(dirname "$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)")
        data=$T/data
        install -d -o postgres -g postgres -m 700 "$data"
        as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
        (cd / && "${as_postgres[@]}" "$binaries/initdb" -D "$data" -A trust --no-sync >/dev/null)
        # Its lock on the data is a System V segment, which CRIU keeps with an IPC namespace only.
        target unshare --ipc "${as_postgres[@]}" "$binaries/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 \
                -c unix_socket_directories= -c shared_buffers=16MB -c huge_pages=off
        wait_for "$binaries/pg_isready -q -h 127.0.0.1 -p $port" 30
        coproc "$binaries/psql" -q -At -h 127.0.0.1 -p "$port" -U postgres postgres 2>&1 3>&-
        client=$COPROC_PID
        targets+=("$client")
        sql 'create table t (n int); insert into t select generate_series(1, 1000); select count(*) from t;'
        [ "$answer" = 1000 ]
        sql 'begin; insert into t values (1001); select pg_backend_pid();'
        backend=$answer
        say_more() { echo 'insert into t values (1002); select count(*), pg_backend_pid() from t;' >&"${COPROC[1]}"; }
        round_trip say_more
        read -r -t 30 answer <&"${COPROC[0]}"
        [ "$answer" = "1002|$backend" ]
        sql 'commit; select count(*) from t;'
        [ "$answer" = 1002 ]
        # Somebody new, and a checkpoint of the cluster's own.
        [ "$("$binaries/psql" -At -h 127.0.0.1 -p "$port" -U postgres -c 'checkpoint' -c 'select sum(n) from t' postgres |
                tail -n 1)" = 502503 ]
        kill -INT "$pid"
        wait_gone "$pid"
        "$binaries/pg_controldata" "$data" | grep -q 'shut down$'
}

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Drives the daemon as somebody else's client would: with the stubs that PyPI's grpcio-tools makes of the project's
.proto files. Needs a Python with grpcio and grpcio-tools.

    grpcio_client.py --socket PATH --build DIR [--stubs DIR] COMMAND
    grpcio_client.py --tls HOST:PORT --certificates DIR --as NAME … COMMAND

    health [SERVICE]              grpc.health.v1.Health/Check
    query PID                     the state of a process
    dump PID DIR NAME [CODEC]     checkpoints a process, which goes on
    restore PATH [JSON]           restores a checkpoint; JSON: further fields of the request
    unimplemented                 calls DumpVM and a method that does not exist
    deadline PID DIR NAME [S]     a dump that is given up after S seconds (0.003); the daemon serves on
    cancel PID DIR NAME [S]       a dump that is cancelled after S seconds (0.5)
    queries N PID…                N queries at once: on one connection, and each on its own
    error                         dumps a process that does not exist
    statuses PID DIR NAME         wrong requests of every kind; PID runs, and the checkpoint NAME is in DIR
    job JID [COMMAND…]            runs a job, attaches to it, writes "hello" to it, and lists it
    attach PID [INPUT]            attaches to a process as the published clients do
    jobs [JID…]                   lists jobs, each with what Get and GetCheckpoint say of it
    dump_job JID DIR NAME         checkpoints a job
    restore_job JID               restores a job from its newest checkpoint
    kill JID [SIGNAL], delete JID, manage PID JID
    job_statuses JID              wrong requests about jobs; JID is one that runs

Prints one JSON object: {"ok": true, …} or {"ok": false, "code": "NOT_FOUND", "message": "…"}. The exit code is 0 when
that is what the command expects.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile
import time

import grpc

SOURCE = pathlib.Path(__file__).resolve().parents[2]
ABSENT_PID = 4194304  # the largest there can be, and free everywhere but on machines that hand out all of them


def make_stubs(build, stubs):
    """Runs protoc over all files; criu.proto is one that the build makes."""
    from grpc_tools import protoc

    api, made = SOURCE / "api", pathlib.Path(build) / "api"
    names = [str(path.relative_to(api)) for path in sorted(api.rglob("*.proto"))] + ["criu/criu.proto"]
    arguments = ["protoc", f"-I{api}", f"-I{made}", f"--python_out={stubs}", f"--grpc_python_out={stubs}", *names]
    if protoc.main(arguments) != 0:
        sys.exit("grpcio_client.py: protoc refused the project's files")


def credentials(options):
    """Mutual TLS: what DIR holds for a client of that name, and the server's authority."""
    directory = pathlib.Path(options.certificates)
    return grpc.ssl_channel_credentials(
        (directory / "ca.pem").read_bytes(),
        (directory / f"{options.name}.key").read_bytes(),
        (directory / f"{options.name}.pem").read_bytes(),
    )


class Client:
    def __init__(self, socket, options=None):
        from daemon import daemon_pb2, daemon_pb2_grpc, query_pb2

        self.socket, self.daemon, self.query = socket, daemon_pb2, query_pb2
        if options and options.tls:
            self.channel = grpc.secure_channel(options.tls, credentials(options))
        else:
            # gRPC's core derives :authority from the path unless it is told.
            self.channel = grpc.insecure_channel("unix:" + socket, options=[("grpc.default_authority", "localhost")])
        self.stub = daemon_pb2_grpc.DaemonStub(self.channel)

    def raw(self, method, request=b"", timeout=10):
        return self.channel.unary_unary(method, lambda b: b, lambda b: b)(request, timeout=timeout)

    def dump_request(self, pid, **fields):
        details = self.daemon.Details()
        details.Process.PID = pid
        request = self.daemon.DumpReq(Type="process", Details=details, **fields)
        # What the published clients always send: "not set" to stasis.
        request.Criu.tcp_established = request.Criu.ext_unix_sk = request.Criu.shell_job = False
        return request


def failure(error):
    return {"ok": False, "code": error.code().name, "message": error.details()}


def message(reply, **more):
    from google.protobuf import json_format

    return {"ok": True, "response": json_format.MessageToDict(reply, preserving_proto_field_name=True), **more}


def health(client, arguments):
    service = arguments[0].encode() if arguments else b""
    request = b"\n" + bytes([len(service)]) + service if service else b""
    reply = client.raw("/grpc.health.v1.Health/Check", request)
    return {"ok": reply == b"\x08\x01", "bytes": reply.hex()}


def query(client, arguments):
    return message(client.stub.Query(client.query.QueryReq(Type="process", PIDs=[int(arguments[0])]), timeout=30))


def dump(client, arguments):
    pid, directory, name, *codec = arguments
    request = client.dump_request(int(pid), Dir=directory, Name=name, Compression=codec[0] if codec else "")
    request.Criu.leave_running = True
    reply, call = client.stub.Dump.with_call(request, timeout=120)
    return message(reply, trailers=sorted(key for key, _ in call.trailing_metadata() or []))


def freeze(client, arguments):
    """By the method, or as the published clients do it: by the action of a dump."""
    pid, method, *_ = arguments
    if method == "Dump":
        request = client.dump_request(int(pid), Action=client.daemon.FREEZE_ONLY)
        return message(client.stub.Dump(request, timeout=30))
    return message(client.stub.Freeze(client.dump_request(int(pid)), timeout=30))


def unfreeze(client, arguments):
    pid, method, *_ = arguments
    if method == "Dump":
        request = client.dump_request(int(pid), Action=client.daemon.UNFREEZE_ONLY)
        return message(client.stub.Dump(request, timeout=30))
    return message(client.stub.Unfreeze(client.dump_request(int(pid)), timeout=30))


def restore(client, arguments):
    fields = json.loads(arguments[1]) if len(arguments) > 1 else {}
    request = client.daemon.RestoreReq(Type="process", Path=arguments[0], **fields)
    return message(client.stub.Restore(request, timeout=120))


def expect(code, call):
    """The failure that the call must end with; another end is no success of the command."""
    try:
        call()
    except grpc.RpcError as error:
        return {**failure(error), "expected": error.code() == code}
    return {"ok": True, "expected": False}


def unimplemented(client, _):
    known = expect(grpc.StatusCode.UNIMPLEMENTED, lambda: client.stub.DumpVM(client.daemon.DumpVMReq(), timeout=10))
    unknown = expect(grpc.StatusCode.UNIMPLEMENTED, lambda: client.raw("/daemon.Daemon/NoSuchMethod"))
    named = "DumpVM" in known.get("message", "") and "NoSuchMethod" in unknown.get("message", "")
    return {**known, "unknown": unknown, "expected": known["expected"] and unknown["expected"] and named}


def deadline(client, arguments):
    pid, directory, name, *seconds = arguments
    request = client.dump_request(int(pid), Dir=directory, Name=name)
    timeout = float(seconds[0]) if seconds else 0.003
    given_up = expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: client.stub.Dump(request, timeout=timeout))
    return {**given_up, "expected": given_up["expected"] and health(client, [])["ok"]}


def cancel(client, arguments):
    pid, directory, name, *seconds = arguments
    call = client.stub.Dump.future(client.dump_request(int(pid), Dir=directory, Name=name), timeout=60)
    time.sleep(float(seconds[0]) if seconds else 0.5)
    if call.done():
        return {"ok": False, "message": "the dump was over before it could be cancelled", "expected": False}
    call.cancel()
    try:
        call.result()
    except grpc.FutureCancelledError:
        return {"ok": False, "code": call.code().name, "expected": health(client, [])["ok"]}
    return {"ok": True, "expected": False}


def queries(client, arguments):
    count, *pids = (int(argument) for argument in arguments)
    request = client.query.QueryReq(Type="process", PIDs=pids, Tree=True)
    others = [Client(client.socket) for _ in range(count)]
    calls = [each.stub.Query.future(request, timeout=60) for each in [client] * count + others]
    for call in calls:
        found = [state.PID for state in call.result().States]
        if found != pids:
            return {"ok": False, "message": f"{found} instead of {pids}"}
    return {"ok": True, "calls": len(calls)}


def run_request(client, jid, command, **fields):
    details = client.daemon.Details()
    details.Process.Path, details.Process.WorkingDir = command[0], "/"
    details.Process.Args.extend(command[1:])
    return client.daemon.RunReq(Type="process", JID=jid, Details=details, Env=[f"PATH={os.environ['PATH']}"], **fields)


def attached(client, pid, given=b""):
    """The output, and the exit code, by which such a client leaves: it never closes its side before."""
    import queue

    requests = queue.SimpleQueue()
    requests.put(client.daemon.AttachReq(PID=pid))
    if given:
        requests.put(client.daemon.AttachReq(PID=pid, Stdin=given))
        requests.put(client.daemon.AttachReq(PID=pid, Stdin=b""))
    call = client.stub.Attach(iter(requests.get, None), timeout=60)
    out, err = b"", b""
    for reply in call:
        which = reply.WhichOneof("Output")
        if which == "ExitCode":
            requests.put(None)
            return {"stdout": out.decode(), "stderr": err.decode(), "code": reply.ExitCode}
        if which == "Stdout":
            out += reply.Stdout
        else:
            err += reply.Stderr
    raise SystemExit("the attach ended without an exit code")


def job(client, arguments):
    jid, *command = arguments
    request = run_request(client, jid, command, Attachable=True, WaitFirstMaster=True)
    reply = client.stub.Run(request, timeout=30)
    return message(reply, attached=attached(client, reply.PID, b"hello\n"), **jobs(client, [jid]))


def attach(client, arguments):
    pid, *given = arguments
    return {"ok": True, "attached": attached(client, int(pid), given[0].encode() if given else b"")}


def jobs(client, arguments):
    from daemon import checkpoint_pb2
    from google.protobuf import json_format

    def as_dict(reply):
        return json_format.MessageToDict(reply, preserving_proto_field_name=True)

    listed = as_dict(client.stub.List(client.daemon.ListReq(JIDs=arguments), timeout=30)).get("Jobs", [])
    for each in listed:
        jid = each["JID"]
        each["Get"] = as_dict(client.stub.Get(client.daemon.GetReq(JID=jid), timeout=30))["Job"]
        latest = client.stub.GetCheckpoint(checkpoint_pb2.GetCheckpointReq(JID=jid), timeout=30)
        each["Checkpoint"] = as_dict(latest).get("Checkpoint")
        every = client.stub.ListCheckpoints(checkpoint_pb2.ListCheckpointsReq(JID=jid), timeout=30)
        each["Checkpoints"] = len(every.Checkpoints)
    return {"ok": True, "jobs": listed}


def dump_job(client, arguments):
    jid, directory, name = arguments
    request = client.daemon.DumpReq(Type="job", Details=client.daemon.Details(JID=jid), Dir=directory, Name=name)
    return message(client.stub.Dump(request, timeout=60))


def restore_job(client, arguments):
    request = client.daemon.RestoreReq(Type="job", Details=client.daemon.Details(JID=arguments[0]))
    return message(client.stub.Restore(request, timeout=60))


def kill(client, arguments):
    jid, *number = arguments
    return message(client.stub.Kill(client.daemon.KillReq(JIDs=[jid], Signal=int(number[0]) if number else 0)))


def delete(client, arguments):
    return message(client.stub.Delete(client.daemon.DeleteReq(JIDs=arguments), timeout=30))


def manage(client, arguments):
    details = client.daemon.Details()
    details.Process.PID = int(arguments[0])
    request = client.daemon.RunReq(Type="process", JID=arguments[1], Details=details,
                                   Action=client.daemon.MANAGE_EXISTING)
    return message(client.stub.Manage(request, timeout=30))


def job_statuses(client, arguments):
    from daemon import checkpoint_pb2

    code, daemon, call, jid = grpc.StatusCode, client.daemon, client.stub, arguments[0]

    def run_of(name=jid, command=("true",), **fields):
        return lambda: call.Run(run_request(client, name, command, **fields), timeout=30)

    wrong = {
        "run: the JID is taken": (code.ALREADY_EXISTS, run_of()),
        "run: a bad Log": (code.INVALID_ARGUMENT, run_of("other", Log="relative")),
        "run: no such command": (code.NOT_FOUND, run_of("other", ("/nonexistent",))),
        "get": (code.NOT_FOUND, lambda: call.Get(daemon.GetReq(JID="none"), timeout=30)),
        "list": (code.NOT_FOUND, lambda: call.List(daemon.ListReq(JIDs=["none"]), timeout=30)),
        "kill": (code.NOT_FOUND, lambda: call.Kill(daemon.KillReq(JIDs=["none"]), timeout=30)),
        "kill: no signal": (code.INVALID_ARGUMENT, lambda: call.Kill(daemon.KillReq(JIDs=[jid], Signal=99), timeout=30)),
        "delete": (code.NOT_FOUND, lambda: call.Delete(daemon.DeleteReq(JIDs=["none"]), timeout=30)),
        "delete: it runs": (code.FAILED_PRECONDITION, lambda: call.Delete(daemon.DeleteReq(JIDs=[jid]), timeout=30)),
        "dump": (code.NOT_FOUND, lambda: dump_job(client, ["none", "/tmp", "none"])),
        "restore": (code.NOT_FOUND, lambda: restore_job(client, ["none"])),
        "restore: it runs": (code.FAILED_PRECONDITION, lambda: restore_job(client, [jid])),
        "attach: no PID": (code.INVALID_ARGUMENT, lambda: attached(client, 0)),
        "attach: no such PID": (code.NOT_FOUND, lambda: attached(client, ABSENT_PID)),
        "delete checkpoint": (
            code.NOT_FOUND,
            lambda: call.DeleteCheckpoint(checkpoint_pb2.DeleteCheckpointReq(ID="none"), timeout=30),
        ),
        "get checkpoint: of what": (
            code.INVALID_ARGUMENT,
            lambda: call.GetCheckpoint(checkpoint_pb2.GetCheckpointReq(), timeout=30),
        ),
    }
    for bad in (" ", "a b", "../x", "a/b", "-x", ".x", "x" * 65, "ä"):
        wrong[f"run: the JID {bad[:10]}"] = (code.INVALID_ARGUMENT, run_of(bad))

    different = {}
    for what, (expected, request) in wrong.items():
        answer = expect(expected, request)
        if not answer.pop("expected") or not answer["message"]:
            different[what] = {**answer, "wanted": expected.name}
    return {"ok": not different, "checked": len(wrong), "different": different}


def error(client, _):
    request = client.dump_request(ABSENT_PID, Dir="/tmp", Name="grpcio-client-absent")
    return expect(grpc.StatusCode.NOT_FOUND, lambda: client.stub.Dump(request, timeout=30))


def statuses(client, arguments):
    """What each wrong request must be answered with, whatever else is said."""
    code, daemon = grpc.StatusCode, client.daemon
    pid, directory, name = int(arguments[0]), *arguments[1:]
    call = client.stub

    def dump_of(pid=pid, details=None, **fields):
        request = client.dump_request(pid, **{"Dir": directory, "Name": "wrong", **fields})
        if details is not None:
            request.Details.CopyFrom(details)
        return lambda: call.Dump(request, timeout=30)

    wrong = {
        "dump: no such PID": (code.NOT_FOUND, dump_of(ABSENT_PID)),
        "dump: no PID": (code.INVALID_ARGUMENT, dump_of(details=daemon.Details())),
        "dump: PID 0": (code.INVALID_ARGUMENT, dump_of(0)),
        "dump: the largest PID": (code.INVALID_ARGUMENT, dump_of(4294967295)),
        "dump: unknown codec": (code.INVALID_ARGUMENT, dump_of(Compression="rar")),
        "dump: a path as the name": (code.INVALID_ARGUMENT, dump_of(Name="../wrong")),
        "dump: a long name": (code.INVALID_ARGUMENT, dump_of(Name="n" * 300)),
        "dump: the name exists": (code.ALREADY_EXISTS, dump_of(Name=name)),
        "dump: streams": (code.INVALID_ARGUMENT, dump_of(Streams=1000)),
        "freeze: no such PID": (code.NOT_FOUND, dump_of(ABSENT_PID, Action=daemon.FREEZE_ONLY)),
        "freeze: ourselves": (code.INVALID_ARGUMENT, dump_of(os.getpid(), Action=daemon.FREEZE_ONLY)),
        "unfreeze: no PID": (
            code.INVALID_ARGUMENT,
            lambda: call.Unfreeze(daemon.DumpReq(Type="process", Details=daemon.Details()), timeout=30),
        ),
        "restore: nothing": (code.INVALID_ARGUMENT, lambda: call.Restore(daemon.RestoreReq(Type="process"), timeout=30)),
        "restore: no such file": (
            code.NOT_FOUND,
            lambda: call.Restore(daemon.RestoreReq(Type="process", Path=directory + "/none"), timeout=30),
        ),
        "restore: the PID is taken": (
            code.ALREADY_EXISTS,
            lambda: call.Restore(daemon.RestoreReq(Type="process", Path=f"{directory}/{name}.stasis"), timeout=30),
        ),
        "query: no such PID": (
            code.NOT_FOUND,
            lambda: call.Query(client.query.QueryReq(Type="process", PIDs=[ABSENT_PID]), timeout=30),
        ),
        "query: no PID": (
            code.INVALID_ARGUMENT,
            lambda: call.Query(client.query.QueryReq(Type="process"), timeout=30),
        ),
        "garbage": (code.INVALID_ARGUMENT, lambda: client.raw("/daemon.Daemon/Query", b"\xff\xff\xff")),
        "too large": (
            code.RESOURCE_EXHAUSTED,
            lambda: client.raw("/daemon.Daemon/Query", b"\n\x80\x80\x80\x10" + b"x" * (32 << 20)),
        ),
    }
    for method in ("DumpVM", "RestoreVM", "CreateUnixSocket"):
        wrong[method] = (code.UNIMPLEMENTED, lambda method=method: client.raw("/daemon.Daemon/" + method))

    different = {}
    for what, (expected, request) in wrong.items():
        answer = expect(expected, request)
        if not answer.pop("expected") or not answer["message"]:
            different[what] = {**answer, "wanted": expected.name}
    return {"ok": not different, "checked": len(wrong), "different": different}


COMMANDS = {
    f.__name__: f
    for f in (health, query, dump, freeze, unfreeze, restore, unimplemented, deadline, cancel, queries, error, statuses,
              job, attach, jobs, dump_job, restore_job, kill, delete, manage, job_statuses)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", default="/run/stasis.sock")
    parser.add_argument("--tls", metavar="HOST:PORT")
    parser.add_argument("--certificates", metavar="DIR")
    parser.add_argument("--as", metavar="NAME", dest="name")
    parser.add_argument("--build", default=os.environ.get("STASIS_BUILD", str(SOURCE / "build")))
    parser.add_argument("--stubs", help="keep the stubs there, and use those that are there already")
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        stubs = options.stubs or temporary
        if not os.path.exists(os.path.join(stubs, "daemon", "daemon_pb2_grpc.py")):
            os.makedirs(stubs, exist_ok=True)
            make_stubs(options.build, stubs)
        sys.path.insert(0, stubs)
        try:
            result = COMMANDS[options.command](Client(options.socket, options), options.arguments)
        except grpc.RpcError as caught:
            result = failure(caught)
    print(json.dumps(result, ensure_ascii=False))
    return 0 if result.get("expected", result["ok"]) else 1


if __name__ == "__main__":
    sys.exit(main())

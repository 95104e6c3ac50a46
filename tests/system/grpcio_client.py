#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Drives the daemon as somebody else's client would: with the stubs that PyPI's grpcio-tools makes of the project's
.proto files. Needs a Python with grpcio and grpcio-tools.

    grpcio_client.py --socket PATH --build DIR [--stubs DIR] COMMAND

    health                        grpc.health.v1.Health/Check
    query PID                     the state of a process
    dump PID DIR NAME [CODEC]     checkpoints a process, which goes on
    restore PATH                  restores a checkpoint
    unimplemented                 calls DumpVM and a method that does not exist
    deadline PID DIR NAME         a dump that is given up after 3 ms; the daemon serves on
    error                         dumps a process that does not exist

Prints one JSON object: {"ok": true, …} or {"ok": false, "code": "NOT_FOUND", "message": "…"}. The exit code is 0 when
that is what the command expects.
"""
import argparse
import json
import os
import pathlib
import sys
import tempfile

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


class Client:
    def __init__(self, socket):
        from daemon import daemon_pb2, daemon_pb2_grpc, query_pb2

        self.daemon, self.query = daemon_pb2, query_pb2
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


def health(client, _):
    reply = client.raw("/grpc.health.v1.Health/Check")
    return {"ok": reply == b"\x08\x01", "bytes": reply.hex()}


def query(client, arguments):
    return message(client.stub.Query(client.query.QueryReq(Type="process", PIDs=[int(arguments[0])]), timeout=30))


def dump(client, arguments):
    pid, directory, name, *codec = arguments
    request = client.dump_request(int(pid), Dir=directory, Name=name, Compression=codec[0] if codec else "")
    request.Criu.leave_running = True
    reply, call = client.stub.Dump.with_call(request, timeout=120)
    return message(reply, trailers=sorted(key for key, _ in call.trailing_metadata() or []))


def restore(client, arguments):
    return message(client.stub.Restore(client.daemon.RestoreReq(Type="process", Path=arguments[0]), timeout=120))


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
    pid, directory, name = arguments
    request = client.dump_request(int(pid), Dir=directory, Name=name)
    given_up = expect(grpc.StatusCode.DEADLINE_EXCEEDED, lambda: client.stub.Dump(request, timeout=0.003))
    return {**given_up, "expected": given_up["expected"] and health(client, arguments)["ok"]}


def error(client, _):
    request = client.dump_request(ABSENT_PID, Dir="/tmp", Name="grpcio-client-absent")
    return expect(grpc.StatusCode.NOT_FOUND, lambda: client.stub.Dump(request, timeout=30))


COMMANDS = {f.__name__: f for f in (health, query, dump, restore, unimplemented, deadline, error)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--socket", default="/run/stasis.sock")
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
            result = COMMANDS[options.command](Client(options.socket), options.arguments)
        except grpc.RpcError as caught:
            result = failure(caught)
    print(json.dumps(result, ensure_ascii=False))
    return 0 if result.get("expected", result["ok"]) else 1


if __name__ == "__main__":
    sys.exit(main())

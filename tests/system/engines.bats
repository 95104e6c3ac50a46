#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
#
# The engines that the tests of containers use, by themselves: what docker.bash and runc.bash start can checkpoint and
# restore here, and leaves nothing behind. No stasis is involved: when this fails, look at the machine first.
# shellcheck disable=SC2154,SC2016 # set by common.bash; for wait_for to expand

load common
load docker
load runc

setup_file() { docker_start --bridge --redis; }

teardown_file() {
        docker_stop
        docker_nothing_left
}

setup() { start_test; }

teardown() {
        runc_cleanup
        end_test
}

@test "docker: a counter is checkpointed, stopped, and started from the checkpoint" {
        docker_run one
        docker_goes_on one
        docker_api POST /containers/one/checkpoints '{"CheckpointID": "first", "Exit": true}'
        wait_for '[ "$(docker_get one .State.Status)" = exited ]'
        # At once it may say "content … already exists": containerd has not yet forgotten the images of the dump.
        wait_for 'docker_api POST "/containers/one/start?checkpoint=first"'
        docker_goes_on one
        # From the memory, not from the beginning: no number is there twice.
        [ -z "$(uniq -d "/proc/$(docker_get one .State.Pid)/root/count")" ]
        docker_api DELETE "/containers/one?force=true"
}

@test "docker: redis on a network of its own is checkpointed and runs on" {
        docker_api POST /networks/create '{"Name": "net1", "IPAM": {"Config": [{"Subnet": "10.201.7.0/24"}]}}'
        docker_run cache '.Image = "redis:1" | .Cmd = ["redis-server", "--save", "", "--protected-mode", "no"] |
                .HostConfig.NetworkMode = "net1"'
        address=$(docker_get cache .NetworkSettings.Networks.net1.IPAddress)
        wait_for "docker_inside redis-cli -h $address set key value"
        docker_api POST /containers/cache/checkpoints '{"CheckpointID": "first", "Exit": false}'
        [ "$(docker_inside redis-cli -h "$address" get key)" = value ]
        docker_api DELETE "/containers/cache?force=true"
        docker_api DELETE /networks/net1
}

@test "docker: the engine is restarted, its containers are still known" {
        docker_create kept
        docker_down
        docker_up
        [ "$(docker_get kept .State.Status)" = created ]
        docker_api DELETE "/containers/kept?force=true"
}

@test "runc: a counter is checkpointed and restored" {
        runc_start
        runc_bundle "$T/b1"
        runc_run c1 "$T/b1"
        runc_goes_on "$T/b1"
        runc_do checkpoint --image-path "$T/images" --work-path "$T/images.work" c1
        [ "$(runc_state c1)" = gone ]
        runc_restore c1 "$T/b1" "$T/images"
        [ "$(runc_state c1)" = running ]
        runc_goes_on "$T/b1"
        [ -z "$(uniq -d "$T/b1/rootfs/count")" ]
}

@test "runc: what is paused or forgotten is cleaned up, too" {
        runc_start
        runc_bundle "$T/b1"
        runc_run c1 "$T/b1"
        runc_do pause c1
        [ "$(runc_state c1)" = paused ]
        runc_cleanup
        [ -z "$(runc_processes)" ]
}

// Command go_plugin is a minimal device plugin, to measure confcom's beside: the same resources with the same device
// IDs, the same answer to Allocate, and it registers again when the kubelet's stream is lost. It has no discovery, no
// probes, no metrics and no logs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"maps"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	pb "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	alphabet       = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	budgetVariable = "CONFCOM_SGX_EPC_MIB"
	firstDelay     = 20 * time.Millisecond // as confcom's, for a kubelet that is not there or refuses
	longestDelay   = 250 * time.Millisecond
)

type resource struct {
	pb.UnimplementedDevicePluginServer
	name   string
	list   *pb.ListAndWatchResponse
	answer *pb.ContainerAllocateResponse
	opened chan struct{}
	lost   chan struct{}
}

func (r *resource) GetDevicePluginOptions(context.Context, *pb.Empty) (*pb.DevicePluginOptions, error) {
	return &pb.DevicePluginOptions{}, nil
}

// ListAndWatch takes the first stream after a registration for the kubelet's, as confcom does.
func (r *resource) ListAndWatch(_ *pb.Empty, stream pb.DevicePlugin_ListAndWatchServer) error {
	isKubelet := false
	select {
	case r.opened <- struct{}{}:
		isKubelet = true
	default:
	}
	err := stream.Send(r.list)
	if err == nil {
		<-stream.Context().Done()
	}
	if isKubelet {
		r.lost <- struct{}{}
	}
	return err
}

func (r *resource) Allocate(_ context.Context, request *pb.AllocateRequest) (*pb.AllocateResponse, error) {
	response := &pb.AllocateResponse{}
	seen := map[string]bool{}
	for _, container := range request.ContainerRequests {
		for _, id := range container.DevicesIds {
			if !r.has(id) || seen[id] {
				return nil, status.Errorf(codes.InvalidArgument, "%s: device %q is unknown or named twice", r.name, id)
			}
			seen[id] = true
		}
		answer := &pb.ContainerAllocateResponse{
			Envs: maps.Clone(r.answer.Envs), Devices: r.answer.Devices, Mounts: r.answer.Mounts,
		}
		if _, budgeted := answer.Envs[budgetVariable]; budgeted {
			answer.Envs[budgetVariable] = strconv.Itoa(len(container.DevicesIds))
		}
		response.ContainerResponses = append(response.ContainerResponses, answer)
	}
	return response, nil
}

func deviceID(index int) string {
	return string([]byte{alphabet[index>>12&63], alphabet[index>>6&63], alphabet[index&63]})
}

// has needs no table, as confcom's check needs none.
func (r *resource) has(id string) bool {
	index := 0
	for _, character := range []byte(id) {
		digit := strings.IndexByte(alphabet, character)
		if digit < 0 {
			return false
		}
		index = index<<6 | digit
	}
	return len(id) == 3 && index < len(r.list.Devices)
}

func newResource(name string, count int, answer *pb.ContainerAllocateResponse) *resource {
	made := &resource{
		name: name, list: &pb.ListAndWatchResponse{}, answer: answer,
		opened: make(chan struct{}, 1), lost: make(chan struct{}, 1),
	}
	made.opened <- struct{}{} // no stream is the kubelet's before a registration
	for index := range count {
		made.list.Devices = append(made.list.Devices, &pb.Device{ID: deviceID(index), Health: pb.Healthy})
	}
	return made
}

func (r *resource) register(directory, endpoint string) error {
	target := "unix:" + filepath.Join(directory, filepath.Base(pb.KubeletSocket))
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	<-r.opened // the next stream is the kubelet's
	request := &pb.RegisterRequest{Version: pb.Version, Endpoint: endpoint, ResourceName: r.name}
	if _, err = pb.NewRegistrationClient(connection).Register(context.Background(), request); err != nil {
		select {
		case r.opened <- struct{}{}:
		default: // the stream has come although Register failed
			<-r.lost
		}
	}
	return err
}

func (r *resource) keepRegistered(directory, endpoint string) {
	for {
		for delay := firstDelay; r.register(directory, endpoint) != nil; delay = min(2*delay, longestDelay) {
			time.Sleep(delay)
		}
		<-r.lost
	}
}

func (r *resource) serve(directory, endpoint string) error {
	listener, err := net.Listen("unix", filepath.Join(directory, endpoint))
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pb.RegisterDevicePluginServer(server, r)
	go func() { log.Fatal(server.Serve(listener)) }()
	return nil
}

func loadResource(text string) (*resource, error) {
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return nil, errors.New("a resource is NAME,COUNT,FILE")
	}
	count, err := strconv.Atoi(parts[1])
	if err != nil {
		return nil, err
	}
	encoded, err := os.ReadFile(parts[2])
	if err != nil {
		return nil, err
	}
	answer := &pb.ContainerAllocateResponse{}
	if err := proto.Unmarshal(encoded, answer); err != nil {
		return nil, err
	}
	return newResource(parts[0], count, answer), nil
}

func main() {
	directory := flag.String("directory", "", "the kubelet's device plugin directory")
	var resources []*resource
	flag.Func("resource", "NAME,COUNT,FILE: the file has a ContainerAllocateResponse", func(text string) error {
		made, err := loadResource(text)
		resources = append(resources, made)
		return err
	})
	flag.Parse()
	for index, one := range resources {
		endpoint := fmt.Sprintf("go-%d-%d.sock", os.Getpid(), index)
		if err := one.serve(*directory, endpoint); err != nil {
			log.Fatal(err)
		}
		go one.keepRegistered(*directory, endpoint)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}

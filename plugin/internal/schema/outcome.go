package schema

// An Outcome is what a name and a type come to.
type Outcome uint8

const (
	Success   Outcome = iota
	Alias             // the name is an alias; only its CNAME is ours
	NoData            // the name exists, without records of the type (RFC 2308 section 2.2)
	NameError         // the name does not exist
	NotSynced         // unknown: a kind of object that the answer depends on is not in yet
)

// A Reason says why an Outcome came about, to people. It tells of nothing that
// the client did not name, and says the same of what is hidden and what is not
// there.
type Reason uint8

const (
	Found Reason = iota
	IsAlias
	OtherType
	OnlyBranch
	NoSuchBranch
	NoSuchNamespace
	NoSuchService
	NoReadyEndpoint
	NoSuchEndpoint
	NoSuchPort
	NoEndpointInZone
	ZoneOfClusterIP
	BelowAlias
	AliasToAddress
	EndpointsOff
	HeadlessOnly
	PodsOff
	NotAnAddress
	OutsidePodRanges
	NoSuchPod
	NoSuchAddress
	NotReverse
	NoSuchExternal
	OnlyEndpoints
	ServicesMissing
	SlicesMissing
	NamespacesMissing
	PodsMissing
	numReasons
)

var reasonTexts = [numReasons]string{
	Found:             "found",
	IsAlias:           "the service is an alias for an external name",
	OtherType:         "the name has no record of this type",
	OnlyBranch:        "the name has no records, only names below it",
	NoSuchBranch:      "no object could give this name",
	NoSuchNamespace:   "no such namespace",
	NoSuchService:     "no such service in the namespace",
	NoReadyEndpoint:   "the service has no ready endpoint",
	NoSuchEndpoint:    "no ready endpoint of the service has this label: a pod needs hostname and subdomain set, and must be ready",
	NoSuchPort:        "the service has no port of this name and protocol",
	NoEndpointInZone:  "no ready endpoint of the service is in this topology zone",
	ZoneOfClusterIP:   "only a headless service has names by topology zone",
	BelowAlias:        "there are no names below an external name's alias",
	AliasToAddress:    "the service's externalName is an address, not a name",
	EndpointsOff:      "endpoints are not served here (option noendpoints)",
	HeadlessOnly:      "only endpoints of headless services are served here (option endpoints headless)",
	PodsOff:           "pod names are not served here (option pods)",
	NotAnAddress:      "the first label is not an address with hyphens for its separators",
	OutsidePodRanges:  "no pod may have this address (option pod_ranges)",
	NoSuchPod:         "no pod of the namespace has this address",
	NoSuchAddress:     "no service or endpoint has this address",
	NotReverse:        "not the reverse name of an address or of a prefix of one",
	NoSuchExternal:    "no such service that is reached from outside",
	OnlyEndpoints:     "the name has no records, only names of endpoints below it",
	ServicesMissing:   "services are not yet known",
	SlicesMissing:     "endpoint slices are not yet known",
	NamespacesMissing: "namespaces are not yet known",
	PodsMissing:       "pods are not yet known",
}

// reasonNames are short, for the label of a metric.
var reasonNames = [numReasons]string{
	Found:             "found",
	IsAlias:           "alias",
	OtherType:         "other_type",
	OnlyBranch:        "empty_non_terminal",
	NoSuchBranch:      "no_such_branch",
	NoSuchNamespace:   "no_such_namespace",
	NoSuchService:     "no_such_service",
	NoReadyEndpoint:   "no_ready_endpoint",
	NoSuchEndpoint:    "no_such_endpoint",
	NoSuchPort:        "no_such_port",
	NoEndpointInZone:  "no_endpoint_in_zone",
	ZoneOfClusterIP:   "zone_of_cluster_ip",
	BelowAlias:        "below_alias",
	AliasToAddress:    "alias_to_address",
	EndpointsOff:      "endpoints_off",
	HeadlessOnly:      "headless_only",
	PodsOff:           "pods_off",
	NotAnAddress:      "not_an_address",
	OutsidePodRanges:  "outside_pod_ranges",
	NoSuchPod:         "no_such_pod",
	NoSuchAddress:     "no_such_address",
	NotReverse:        "not_reverse",
	NoSuchExternal:    "no_such_external_service",
	OnlyEndpoints:     "only_endpoints",
	ServicesMissing:   "services_not_synced",
	SlicesMissing:     "endpointslices_not_synced",
	NamespacesMissing: "namespaces_not_synced",
	PodsMissing:       "pods_not_synced",
}

// Reasons are all reasons, in order.
func Reasons() []Reason {
	all := make([]Reason, numReasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// Text explains the reason to a person.
func (r Reason) Text() string { return reasonTexts[r] }

// String is a word for the reason, as metrics use it.
func (r Reason) String() string { return reasonNames[r] }

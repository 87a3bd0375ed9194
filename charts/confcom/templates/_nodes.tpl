{{/* Rules about nodes, for people who use helm without the confcom command.
The rules compare labels only: see docs/adr, "Two rules about nodes". */}}

{{/* The platform of an installed device plugin. */}}
{{- define "confcom.platformOf" -}}
{{- get (.metadata.labels | default dict) "confcom.internal/platform" }}
{{- end }}

{{/* "true" if hardware nodes have a quote helper in the installed release. */}}
{{- define "confcom.hardwareHelperInstalled" -}}
{{- $labels := lookup "apps/v1" "DaemonSet" .Release.Namespace "confcom-quote-helper" | dig "metadata" "labels" dict }}
{{- if eq "hardware" (get $labels "confcom.internal/platform") }}true{{ end }}
{{- end }}

{{/* The names of the nodes that have all of LABELS, except the names in NAMES. Called with (list LABELS NODES NAMES).
A JSON list. */}}
{{- define "confcom.labelled" -}}
{{- $wanted := index . 0 }}
{{- $names := index . 2 }}
{{- $found := list }}
{{- range index . 1 }}
{{- $labels := .metadata.labels | default dict }}
{{- $chosen := true }}
{{- range $key, $value := $wanted }}
{{- $chosen = and $chosen (hasKey $labels $key) (eq (get $labels $key) $value) }}
{{- end }}
{{- /* There may be thousands of nodes, so only nodes that have the labels are looked up in NAMES. */}}
{{- if and $chosen (has .metadata.name $names | not) }}{{ $found = append $found .metadata.name }}{{ end }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* The nodes of an installed DaemonSet; called with (list DAEMONSET NODES).
A JSON list: the names of the nodes with its labels, or, for nodeSelectorTerms, one text that says how many nodes the
terms selected. */}}
{{- define "confcom.served" -}}
{{- $daemon := index . 0 }}
{{- $count := dig "status" "desiredNumberScheduled" 0 $daemon | int }}
{{- if $daemon.spec.template.spec.nodeSelector }}
{{- include "confcom.labelled" (list $daemon.spec.template.spec.nodeSelector (index . 1) list) }}
{{- else }}
{{- empty $count | ternary list (list (printf "%v nodes that nodeSelectorTerms chose" $count)) | toJson }}
{{- end }}
{{- end }}

{{/* Refuses an upgrade that would silently remove daemons from nodes whose workloads use them.
confcom.checkConsent checks nodes whose hardware would be replaced by simulation. nodeSelectorTerms are explicit, so
their nodes are not checked. */}}
{{- define "confcom.checkNodes" }}
{{- $platforms := include "confcom.platforms" . | fromYamlArray }}
{{- range $name := list "confcom-device-plugin" "confcom-device-plugin-simulated" }}
{{- with lookup "apps/v1" "DaemonSet" $.Release.Namespace $name }}
{{- $simulated := include "confcom.platformOf" . | eq "simulated" }}
{{- $labels := ternary $.Values.simulated.nodeSelector $.Values.nodeSelector $simulated }}
{{- $stays := and (has (ternary "simulated" "hardware" $simulated) $platforms) (eq (toJson .spec.template.spec.nodeSelector) (toJson $labels)) }}
{{- /* If the labels that select nodes stay the same, no node loses its daemons.
The check is then omitted, because helm takes seconds for a list of thousands of nodes. */}}
{{- if not $stays }}
{{- $nodes := (lookup "v1" "Node" "" "").items }}
{{- $served := include "confcom.served" (list . $nodes) | fromJsonArray }}
{{- $delete := printf "  kubectl -n %s delete daemonset %s" $.Release.Namespace $name }}
{{- if and $simulated $served (has "simulated" $platforms | not) }}
{{- include "confcom.refuse" (list "nodes-lose-daemons"
  (printf "%s would lose the daemons, and the workloads there their EPC and quotes" (join ", " $served))
  "the installed release simulates SGX there, and simulated.enabled is false"
  "to keep the simulation, add"
  (print "  --set simulated.enabled=true" (hasSuffix "-simulated" $name | ternary " --set simulated.besideHardware=true" ""))
  "or, to end the simulation, delete the simulated device plugin first:"
  $delete
) }}
{{- else if and $simulated (has "simulated" $platforms) }}
{{- $hardware := list }}
{{- if and $.Values.simulated.besideHardware (not $.Values.nodeSelectorTerms) }}
{{- $hardware = include "confcom.labelled" (list $.Values.nodeSelector $nodes list) | fromJsonArray }}
{{- end }}
{{- include "confcom.checkLabels" (dict "daemon" . "nodes" $nodes "served" $served "labels" $.Values.simulated.nodeSelector "hardware" $hardware "lose" "EPC and quotes" "delete" $delete) }}
{{- else if and (not $simulated) (has "hardware" $platforms) (not $.Values.nodeSelectorTerms) }}
{{- include "confcom.checkLabels" (dict "daemon" . "nodes" $nodes "served" $served "labels" $.Values.nodeSelector "hardware" list "lose" (include "confcom.hardwareHelperInstalled" $ | empty | ternary "EPC" "EPC and quotes")) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Refuses an upgrade that keeps a platform if a node of the platform would lack the labels that select nodes.
Called with (dict "daemon" DAEMONSET "nodes" NODES "served" ITS_NODES "labels" LABELS "hardware" HARDWARE_NODES "lose"
TEXT "delete" COMMAND). */}}
{{- define "confcom.checkLabels" }}
{{- $selector := .daemon.spec.template.spec.nodeSelector }}
{{- $kept := include "confcom.labelled" (list .labels .nodes list) | fromJsonArray }}
{{- $hardware := .hardware }}
{{- $lost := list }}
{{- $changed := list }}
{{- range .served }}
{{- if has . $kept | not }}
{{- if has . $hardware }}{{ $changed = append $changed . }}{{ else }}{{ $lost = append $lost . }}{{ end }}
{{- end }}
{{- end }}
{{- if $changed }}
{{- include "confcom.refuse" (list "nodes-change-platform"
  (printf "%s would change from simulated to hardware, and the workloads there lose their EPC and quotes" (join ", " $changed))
  "nodeSelector selects these nodes, and simulated.nodeSelector does not"
  "to keep them simulated, select hardware nodes by a label that these nodes do not have"
  "or, if they have SGX hardware, delete the simulated device plugin first:"
  .delete
) }}
{{- end }}
{{- if $lost }}
{{- $labels := list }}
{{- range $key, $value := .labels }}
{{- $labels = append $labels (printf "%s=%s" $key $value) }}
{{- end }}
{{- $what := printf "%s would lose the daemons, and the workloads there their %s" (join ", " $lost) .lose }}
{{- if not $selector }}
{{- include "confcom.refuse" (list "nodes-lose-daemons" $what
  "nodeSelectorTerms selected these nodes, and the new values have no nodeSelectorTerms"
  "give the installed release's nodeSelectorTerms again (on AKS: values-aks.yaml), or others, which the chart does not check"
) }}
{{- end }}
{{- include "confcom.refuse" (list "nodes-lose-daemons" $what
  (printf "the new values select nodes by the labels %s, and these nodes have only the installed release's labels" (join " " $labels))
  "label them, and upgrade again; keep the old label, which a rollback needs:"
  (printf "  kubectl label node %s %s" (join " " $lost) (join " " $labels))
  "or, to remove SGX from them, remove the old label first:"
  (printf "  kubectl label node %s %s-" (join " " $lost) ($selector | keys | sortAlpha | join "- "))
) }}
{{- end }}
{{- end }}

{{/* With simulated.enabled, a user consents only to simulation in a cluster without hardware nodes.
With hardware nodes, besideHardware is needed too. Hardware nodes are the nodes of the hardware plugin, and nodes with
nodeSelector's labels but without the label for simulation. */}}
{{- define "confcom.checkConsent" }}
{{- if and .Values.simulated.enabled (not .Values.simulated.besideHardware) }}
{{- $nodes := (lookup "v1" "Node" "" "").items }}
{{- $served := list }}
{{- $stays := false }}
{{- with lookup "apps/v1" "DaemonSet" .Release.Namespace "confcom-device-plugin" }}
{{- if include "confcom.platformOf" . | eq "hardware" }}
{{- $served = include "confcom.served" (list . $nodes) | fromJsonArray }}
{{- $stays = ne (toJson .spec.template.spec.nodeSelector) (toJson $.Values.nodeSelector) }}
{{- end }}
{{- end }}
{{- $simulated := include "confcom.labelled" (list .Values.simulated.nodeSelector $nodes $served) | fromJsonArray }}
{{- $labelled := include "confcom.labelled" (list .Values.nodeSelector $nodes $simulated) | fromJsonArray }}
{{- $do := list }}
{{- if $labelled }}
{{- $do = list "remove their label:" (printf "  kubectl label node %s %s-" (join " " $labelled) (.Values.nodeSelector | keys | sortAlpha | join "- ")) }}
{{- end }}
{{- if and $served $stays }}
{{- $do = concat $do (list (print ($labelled | empty | ternary "" "and ") "delete the device plugin that runs there:") (printf "  kubectl -n %s delete daemonset confcom-device-plugin" .Release.Namespace)) }}
{{- end }}
{{- if $do }}
{{- include "confcom.refuse" (concat (list "hardware-in-cluster"
  (printf "this cluster has nodes with SGX hardware (%s), and simulated.enabled is true" (concat $served $labelled | uniq | join ", "))
  (print ($served | empty | ternary "" "they would lose their device plugin; ") "simulated nodes would offer the same resources, and the scheduler could place a workload on either kind of node")
  "to have both, with other resource names on simulated nodes, add"
  "  --set simulated.besideHardware=true"
  (print "or, to exclude these nodes from SGX, " (first $do))
) (rest $do)) }}
{{- end }}
{{- end }}
{{- end }}

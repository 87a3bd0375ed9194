{{/* Parts of the helper's Pod that differ between kinds of nodes; called with (dict "root" $ "platform" NAME). */}}

{{/* The platforms that have a quote helper: a JSON list.
Beside simulated nodes, hardware nodes have a helper if there is an image of aesmd, so releases without the image stay
unchanged; checks.yaml refuses to remove the helper this way. */}}
{{- define "confcom.helperPlatforms" -}}
{{- $found := list }}
{{- if .Values.quoteHelper.enabled }}
{{- range include "confcom.platforms" . | fromYamlArray }}
{{- if or (eq . "simulated") (not $.Values.simulated.enabled) (include "confcom.aesmdChosen" $) }}
{{- $found = append $found . }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* The result is not empty if the values name an image of Intel's aesmd. */}}
{{- define "confcom.aesmdChosen" -}}
{{- with .Values.quoteHelper.aesmd.image }}
{{- if or .registry .repository .tag .digest }}true{{ end }}
{{- end }}
{{- end }}

{{- define "confcom.helperImage" -}}
{{- include "confcom.image" (dict "root" .root "image" .root.Values.quoteHelper.image) }}
{{- end }}

{{- define "confcom.providerArgs" -}}
{{- $enclave := .root.Values.simulated.quotingEnclave }}
{{- if eq .platform "simulated" }}
- --simulated
- --state-dir=/etc/confcom
{{- with $enclave.mrEnclave }}
- --simulated-qe-mrenclave={{ . }}
{{- end }}
{{- if hasKey $enclave "isvSvn" }}
- --simulated-qe-isvsvn={{ $enclave.isvSvn }}
{{- end }}
{{- else }}
- --provider=aesmd
- --aesmd-socket=/var/run/confcom/aesmd/aesm.socket
{{- if .root.Values.quoteHelper.expectedRoot }}
- --expected-root=/etc/confcom/expected-root/root.pem # TEST ROOT
{{- end }}
{{- end }}
{{- end }}

{{- define "confcom.helperMounts" -}}
- {name: aesmd, mountPath: /var/run/aesmd}
- {name: removal, mountPath: /etc/podinfo, readOnly: true}
{{- if eq .platform "simulated" }}
- {name: simulated-root, mountPath: /etc/confcom/simulated-root, readOnly: true}
{{- else }}
- {name: aesmd-private, mountPath: /var/run/confcom/aesmd} # writable: here the helper asks for aesmd's restart
{{- if .root.Values.quoteHelper.expectedRoot }}
- {name: expected-root, mountPath: /etc/confcom/expected-root, readOnly: true}
{{- end }}
{{- end }}
{{- end }}

{{- define "confcom.helperVolumes" -}}
# Exception: hostPath, because containers on the node mount this directory (their manifests say so) to find AESM's
# socket.
- name: aesmd
  hostPath: {path: /var/run/aesmd, type: DirectoryOrCreate}
- name: removal
  downwardAPI:
    items:
    - path: removal
      fieldRef: {fieldPath: "metadata.annotations['confcom.internal/removal']"}
{{- if eq .platform "simulated" }}
{{ include "confcom.simulatedRoot" .root }}
{{- else }}
# Every user may open aesmd's socket, so only its directory protects the socket: each Pod has a directory of its own.
# aesmd's directory is in memory, because a full disk must not keep aesmd from making its socket.
- name: aesmd-private
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
{{ include "confcom.collateralVolumes" .root }}
{{- if .root.Values.quoteHelper.expectedRoot }}
- name: expected-root
  configMap:
    name: confcom-expected-root
    items: [{key: root.pem, path: root.pem}]
{{- end }}
{{- end }}
{{- end }}

{{- define "confcom.simulatedRoot" -}}
- name: simulated-root
  secret:
    secretName: {{ .Values.simulated.secretName | quote }}
    defaultMode: 0400 # and readable for fsGroup, which the kubelet adds
    items: [{key: seed, path: seed}, {key: created, path: created}, {key: check, path: check}]
{{- end }}

{{/* Checksums of values, so that the helper's Pods are replaced when the values change.
Intel's library reads its configuration only once, and the helper reads its root only once. */}}
{{- define "confcom.helperChecksums" -}}
{{- if eq .platform "hardware" }}
checksum/collateral: {{ include "confcom.qcnl" .root | sha256sum }}
{{- with .root.Values.quoteHelper.expectedRoot }}
checksum/expected-root: {{ trim . | sha256sum }}
{{- end }}
{{- end }}
{{- end }}

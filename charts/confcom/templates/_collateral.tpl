{{/* The content of sgx_default_qcnl.conf as a JSON object, so that it can always be parsed.
With a malformed file, Intel's libraries report no error and make quotes that no verifier accepts. Retries are short,
because every call waits for the retries, and every deadline of the helper must be longer. */}}
{{- define "confcom.qcnl" -}}
{{- $collateral := .Values.quoteHelper.collateral }}
{{- $intel := "https://api.trustedservices.intel.com/sgx/certification/v4/" }}
{{- $conf := dict "use_secure_cert" true "retry_times" 1 "retry_delay" 1 "pck_cache_expire_hours" 168 "verify_collateral_cache_expire_hours" 168 }}
{{- if eq $collateral.preset "azure" }}
{{- $request := dict "headers" (dict "metadata" "true") "params" (dict "api-version" "2021-07-22-preview") }}
{{- $conf = mergeOverwrite $conf (dict
  "local_pck_url" "http://169.254.169.254/metadata/THIM/sgx/certification/v4/"
  "pccs_url" "https://global.acccache.azure.net/sgx/certification/v4/"
  "collateral_service" $intel
  "pccs_api_version" "3.1"
  "pck_cache_expire_hours" 48
  "verify_collateral_cache_expire_hours" 48
  "custom_request_options" (dict "get_cert" $request)
) }}
{{- else if eq $collateral.preset "intel" }}
{{- $conf = mergeOverwrite $conf (dict "pccs_url" $intel "collateral_service" $intel "pccs_api_version" "3.1") }}
{{- else if eq $collateral.preset "pccs" }}
{{- $conf = set $conf "pccs_url" (print (trimSuffix "/" $collateral.pccs.url) "/") }}
{{- else }}
{{- $conf = $collateral.custom }}
{{- end }}
{{- toPrettyJson $conf }}
{{- end }}

{{/* Azure's THIM service answers only on the node itself, so a proxy cannot reach it. */}}
{{- define "confcom.noProxy" -}}
{{- $collateral := .Values.quoteHelper.collateral }}
{{- $thim := eq $collateral.preset "azure" | ternary "169.254.169.254" "" }}
{{- list $thim $collateral.proxy.no | compact | join "," }}
{{- end }}

{{/* The next three templates are for aesmd's container, which has Intel's quote provider library. */}}
{{- define "confcom.collateralEnv" -}}
{{- $proxy := .Values.quoteHelper.collateral.proxy }}
- {name: HOME, value: /var/cache/collateral}
- {name: AZDCAP_CACHE, value: /var/cache/collateral}
{{- with $proxy.https }}
- {name: https_proxy, value: {{ . | quote }}}
{{- end }}
{{- with $proxy.http }}
- {name: http_proxy, value: {{ . | quote }}}
{{- end }}
{{- if or $proxy.https $proxy.http }}
{{- with include "confcom.noProxy" . }}
- {name: no_proxy, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "confcom.collateralMounts" -}}
- {name: collateral-cache, mountPath: /var/cache/collateral}
- {name: collateral, mountPath: /etc/sgx_default_qcnl.conf, subPath: qcnl.conf, readOnly: true}
{{- if .Values.quoteHelper.collateral.caBundle.configMap }}
# This mount replaces the system's file, because Intel's library reads no other file, whatever SSL_CERT_FILE says.
- {name: ca-bundle, mountPath: /etc/ssl/certs/ca-certificates.crt, subPath: ca-certificates.crt, readOnly: true}
{{- end }}
{{- end }}

{{- define "confcom.collateralVolumes" -}}
- name: collateral-cache
  emptyDir: {medium: Memory, sizeLimit: 16Mi} # a certificate has 5 KB; the limit of memory of its container has this too
- name: collateral
  configMap:
    name: confcom-collateral
    items: [{key: qcnl.conf, path: qcnl.conf}]
{{- with .Values.quoteHelper.collateral.caBundle }}
{{- if .configMap }}
- name: ca-bundle
  configMap:
    name: {{ .configMap | quote }}
    items: [{key: {{ .key | quote }}, path: ca-certificates.crt}]
{{- end }}
{{- end }}
{{- end }}
